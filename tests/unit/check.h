/* What every unit test includes first: cmocka with the headers it wants, less its macro `fail`, whose name is ours. */
#ifndef ROCMFORGE_TESTS_CHECK_H
#define ROCMFORGE_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#undef fail

#endif
