/* y = W x of many columns, blocks of 32. mat_block.h says how, args_linear_mat.h how to launch. */
#include "mat_block.h"

KERNEL_BLOCKS(linear_mat_q4_0, linear_mat_args, LINEAR_MAT_THREADS, 2) { mat_many<form_q4_0>(a); }
KERNEL_BLOCKS(linear_mat_q4_1, linear_mat_args, LINEAR_MAT_THREADS, 2) { mat_many<form_q4_1>(a); }
KERNEL_BLOCKS(linear_mat_q5_0, linear_mat_args, LINEAR_MAT_THREADS, 2) { mat_many<form_q5_0>(a); }
KERNEL_BLOCKS(linear_mat_q5_1, linear_mat_args, LINEAR_MAT_THREADS, 2) { mat_many<form_q5_1>(a); }
KERNEL(linear_mat_q8_0, linear_mat_args, LINEAR_MAT_THREADS) { mat_many<form_q8_0>(a); }

KERNEL(linear_mat_few_q4_0, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q4_0>(a); }
KERNEL(linear_mat_few_q4_1, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q4_1>(a); }
KERNEL(linear_mat_few_q5_0, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q5_0>(a); }
KERNEL(linear_mat_few_q5_1, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q5_1>(a); }
KERNEL(linear_mat_few_q8_0, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q8_0>(a); }
