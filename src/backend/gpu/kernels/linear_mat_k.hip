/* y = W x of many columns, super-blocks of 256. mat_block.h says how, args_linear_mat.h how to launch. */
#include "mat_block.h"

KERNEL(linear_mat_q2_k, linear_mat_args, LINEAR_MAT_THREADS) { mat_many<form_q2_k>(a); }
KERNEL_BLOCKS(linear_mat_q3_k, linear_mat_args, LINEAR_MAT_THREADS, 2) { mat_many<form_q3_k>(a); }
KERNEL(linear_mat_q4_k, linear_mat_args, LINEAR_MAT_THREADS) { mat_many<form_q4_k>(a); }
KERNEL(linear_mat_q5_k, linear_mat_args, LINEAR_MAT_THREADS) { mat_many<form_q5_k>(a); }
KERNEL(linear_mat_q6_k, linear_mat_args, LINEAR_MAT_THREADS) { mat_many<form_q6_k>(a); }

KERNEL(linear_mat_few_q2_k, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q2_k>(a); }
KERNEL(linear_mat_few_q3_k, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q3_k>(a); }
KERNEL(linear_mat_few_q4_k, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q4_k>(a); }
KERNEL(linear_mat_few_q5_k, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q5_k>(a); }
KERNEL(linear_mat_few_q6_k, linear_mat_args, LINEAR_MAT_FEW_THREADS) { mat_few<form_q6_k>(a); }
