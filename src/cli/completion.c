/* rocmforge completion SHELL: a script, printed from the same tables that parse the command line. */
#include "cli/cli.h"

#include <string.h>

static bool is_long(const args_option *o) { return o->name[1] == '-'; }
static bool has_choice(const args_option *o) { return o->value && strchr(o->value, '|') && !strchr(o->value, '('); }
static bool wants_file(const args_option *o) { return o->value && strcmp(o->value, "FILE") == 0; }
static bool wants_model(const args_option *o) {
    return !strcmp(o->name, "-m") || !strcmp(o->name, "--model") || !strcmp(o->name, "--gguf");
}

/* --- bash: words for the command; after an option its choices, files, or nothing; elsewhere model files -------------------- */
static void bash_name(void *ctx, const args_option *o) {
    (void)ctx;
    if (is_long(o)) printf(" %s", o->name);
}

static void bash_value(void *ctx, const args_option *o) {
    (void)ctx;
    if (!o->takes_value || wants_model(o)) return;
    printf("        %s) ", o->name);
    if (has_choice(o)) {
        fputs("words='", stdout);
        for (const char *p = o->value; *p; p++) putchar(*p == '|' ? ' ' : *p);
        puts("' kind=words ;;");
    } else {
        printf("kind=%s ;;\n", wants_file(o) ? "files" : "none");
    }
}

static void bash(void) {
    printf("_rocmforge() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words kind=models\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf("    %s)\n        words='", c->name);
        args_each(c->bit, bash_name, NULL);
        printf("'\n        [[ $cur == -* ]] && kind=words\n        case $prev in\n");
        args_each(c->bit, bash_value, NULL);
        printf("        esac ;;\n");
    }
    printf("    esac\n    [[ ${COMP_WORDS[1]} == completion ]] && words='bash zsh fish' kind=words\n"
           "    [[ ${COMP_WORDS[1]} == @(status|cancel|devices|doctor) && $kind == models ]] && kind=none\n"
           "    if (( COMP_CWORD == 1 )); then\n        kind=words words='");
    for (const cli_command *c = cli_commands; c->name; c++) printf("%s ", c->name);
    printf(
        "help --help --version'\n    fi\n"
        "    case $kind in\n"
        "    words) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\") ;;\n"
        "    files) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
        "    models) mapfile -t COMPREPLY < <(compgen -f -X '!*.[gG][gG][uU][fF]' -- \"$cur\"; compgen -d -- \"$cur\")"
        " ;;\n"
        "    *) COMPREPLY=() ;;\n    esac\n}\n"
        "complete -o filenames -F _rocmforge rocmforge rocmforge_cli rocmforge-cli\n");
}

/* --- zsh: _arguments does the work ---------------------------------------------------------------------------------------- */

/* Text inside '...[...]' of an _arguments specification. */
static void zsh_text(const char *s) {
    for (; *s; s++) {
        if (*s == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:", *s))
            printf("\\%c", *s);
        else
            putchar(*s);
    }
}

static void zsh_option(void *ctx, const args_option *o) {
    (void)ctx;
    printf(" \\\n            '%s[", o->name);
    zsh_text(o->help);
    putchar(']');
    if (has_choice(o)) {
        fputs(":value:(", stdout);
        for (const char *p = o->value; *p; p++) putchar(*p == '|' ? ' ' : *p);
        putchar(')');
    } else if (o->takes_value) {
        printf(":value:%s", wants_model(o) ? "_files -g \"*.gguf\"" : wants_file(o) ? "_files" : "");
    }
    putchar('\'');
}

static void zsh(void) {
    printf("#compdef rocmforge rocmforge_cli rocmforge-cli\n_rocmforge() {\n    if (( CURRENT == 2 )); then\n"
           "        local -a c\n        c=(");
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf(" '%s:", c->name);
        zsh_text(c->about);
        putchar('\'');
    }
    printf(" )\n        _describe command c\n        return\n    fi\n    case $words[2] in\n");
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf("    %s)\n        shift words\n        (( CURRENT-- ))\n        _arguments", c->name);
        args_each(c->bit, zsh_option, NULL);
        if (c->bit & CMD_MODEL) printf(" \\\n            '1:model:_files -g \"*.gguf\"'");
        if (c->bit == CMD_CONVERT) printf(" \\\n            '1:folder:_files -/' '2:file:_files -g \"*.gguf\"'");
        if (c->bit == CMD_COMPLETION) printf(" \\\n            '1:shell:(bash zsh fish)'");
        printf(" ;;\n");
    }
    printf("    esac\n}\n"
           "if [[ $funcstack[1] == _rocmforge ]]; then\n    _rocmforge \"$@\"\n"
           "else\n    compdef _rocmforge rocmforge rocmforge_cli rocmforge-cli\nfi\n");
}

/* --- fish ----------------------------------------------------------------------------------------------------------------- */
static void fish_text(const char *s) {
    for (; *s; s++) printf(*s == '\'' || *s == '\\' ? "\\%c" : "%c", *s);
}

static void fish_option(void *ctx, const args_option *o) {
    const char *command = ctx;
    const char *kind = is_long(o) ? "l" : o->name[2] ? "o" : "s"; /* --long, -old, -s */
    printf("complete -c rocmforge -n '__fish_seen_subcommand_from %s' -%s %s%s", command, kind,
           o->name + 1 + is_long(o),
           !o->takes_value ? ""
           : wants_file(o) ? " -r -F"
                           : " -x");
    if (has_choice(o)) {
        fputs(" -a '", stdout);
        for (const char *p = o->value; *p; p++) putchar(*p == '|' ? ' ' : *p);
        putchar('\'');
    }
    fputs(" -d '", stdout);
    fish_text(o->help);
    puts("'");
}

static void fish(void) {
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf("complete -c rocmforge -n __fish_use_subcommand -f -a %s -d '", c->name);
        fish_text(c->about);
        puts("'");
        args_each(c->bit, fish_option, (void *)(uintptr_t)c->name);
    }
    puts("complete -c rocmforge -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n"
         "complete -c rocmforge -n 'not __fish_use_subcommand; and not __fish_seen_subcommand_from completion devices "
         "doctor status cancel'"
         " -k -a '(__fish_complete_suffix .gguf)'\n"
         "complete -c rocmforge_cli -w rocmforge\n"
         "complete -c rocmforge-cli -w rocmforge");
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
