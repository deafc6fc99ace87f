/* The older ROCmForge's variables: those that still set an option, and one warning for those that mean nothing here. */
#ifndef ROCMFORGE_CLI_OLDER_H
#define ROCMFORGE_CLI_OLDER_H

typedef struct {
    const char *variable, *option;
} older_name;

extern const older_name older_names[]; /* ends with {0}; the twin of the option's own name wins */

/* One line on standard error for all that are set and have no effect, with what to use instead. */
void older_warn(void);

#endif
