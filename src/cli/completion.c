/* rocmforge completion SHELL: a script, printed from the same tables that parse the command line. */
#include "cli/cli.h"

#include <string.h>

static void bash_option(void *ctx, const char *name, bool takes_value) {
    (void)ctx, (void)takes_value;
    printf(" %s", name);
}

static void bash(void) {
    printf("_rocmforge() {\n    local cur=${COMP_WORDS[COMP_CWORD]} words\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf("    %s) words=\"", c->name);
        args_each(c->bit, bash_option, NULL);
        printf("\" ;;\n");
    }
    printf("    *) words=\"");
    for (const cli_command *c = cli_commands; c->name; c++) printf("%s ", c->name);
    printf("--help --version\" ;;\n    esac\n"
           "    if [[ $cur == -* || $COMP_CWORD -eq 1 ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
           "    else COMPREPLY=($(compgen -f -X '!*.gguf' -- \"$cur\") $(compgen -d -- \"$cur\")); fi\n}\n"
           "complete -o filenames -F _rocmforge rocmforge rocmforge_cli rocmforge-cli\n");
}

static void zsh_option(void *ctx, const char *name, bool takes_value) {
    (void)ctx;
    printf(" '%s%s'", name, takes_value ? "=:value:_files" : "");
}

static void zsh(void) {
    printf("#compdef rocmforge rocmforge_cli rocmforge-cli\n_rocmforge() {\n    if (( CURRENT == 2 )); then\n        "
           "local -a c=(");
    for (const cli_command *c = cli_commands; c->name; c++) printf(" '%s:%s'", c->name, c->about);
    printf(" )\n        _describe command c\n        return\n    fi\n    case $words[2] in\n");
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf("    %s) shift words; (( CURRENT-- )); _arguments", c->name);
        args_each(c->bit, zsh_option, NULL);
        printf(" '1:model:_files -g \"*.gguf\"' ;;\n");
    }
    printf("    esac\n}\ncompdef _rocmforge rocmforge rocmforge_cli rocmforge-cli\n");
}

static void fish_option(void *ctx, const char *name, bool takes_value) {
    printf("complete -c rocmforge -n '__fish_seen_subcommand_from %s' -l %s%s\n", (const char *)ctx, name + 2,
           takes_value ? " -r" : "");
}

static void fish(void) {
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf("complete -c rocmforge -n __fish_use_subcommand -f -a %s -d '%s'\n", c->name, c->about);
        args_each(c->bit, fish_option, (void *)(uintptr_t)c->name);
    }
    printf("complete -c rocmforge -n 'not __fish_use_subcommand' -k -a '(__fish_complete_suffix .gguf)'\n");
}

int cmd_completion(const args *a) {
    const char *shell = a->operand ? a->operand : "";
    if (!strcmp(shell, "bash"))
        bash();
    else if (!strcmp(shell, "zsh"))
        zsh();
    else if (!strcmp(shell, "fish"))
        fish();
    else
        return cli_usage("usage.argument", "which shell? Give bash, zsh or fish");
    return EXIT_DONE;
}
