/* A Hugging Face folder of a few kilobytes: one layer of llama with a vocabulary of seven tokens. Tests and fuzzers. */
#ifndef ROCMFORGE_TESTS_TINY_FOLDER_H
#define ROCMFORGE_TESTS_TINY_FOLDER_H

#include <stddef.h>

/* The files of the folder, in a fixed order; text ends with a NUL that is not part of it. */
enum { TINY_CONFIG, TINY_TOKENIZER, TINY_TOKENIZER_CONFIG, TINY_GENERATION, TINY_WEIGHTS, TINY_N_FILES };
extern const char *const tiny_names[TINY_N_FILES];
/* The content of one, *n bytes; free it. */
char *tiny_content(int file, size_t *n);
void tiny_write(const char *dir, const char *name, const void *p, size_t n); /* ends the program when it cannot */
void tiny_folder(const char *dir);                                           /* all of them; the folder is there */

#endif
