"""C++ that many families share: reading n numbers, pairs, a grid, a word."""


def each(init: str, step: str, out: str, form: str = "%d") -> str:
    """Reads n numbers one by one; a likely slip is to start counting at 1."""
    return (
        f'int n;\nscanf("%d", &n);\n{init}\nfor (int i = «0¦1»; i < n; i++) {{\nint x;\n'
        f'scanf("%d", &x);\n{step}\n}}\nprintf("{form}\\n", {out});\n'
    )


def stored(body: str) -> str:
    """Reads n numbers into ``a``, then runs ``body``."""
    return (
        'int n, a[100];\nscanf("%d", &n);\nfor (int i = 0; i < n; i++) scanf("%d", &a[i]);\n' + body
    )


def each_pair(init: str, step: str, out: str, form: str = "%d") -> str:
    """Reads n pairs one by one."""
    return (
        f'int n;\nscanf("%d", &n);\n{init}\nfor (int i = «0¦1»; i < n; i++) {{\nint a, b;\n'
        f'scanf("%d %d", &a, &b);\n{step}\n}}\nprintf("{form}\\n", {out});\n'
    )


def each_cell(init: str, step: str, out: str) -> str:
    """Reads a grid cell by cell."""
    return (
        f'int n, m;\nscanf("%d %d", &n, &m);\n{init}\nfor (int i = «0¦1»; i < n; i++)\n'
        f'for (int j = «0¦1»; j < m; j++) {{\nint x;\nscanf("%d", &x);\n{step}\n}}\n'
        f'printf("%d\\n", {out});\n'
    )


def each_letter(init: str, step: str, out: str) -> str:
    """Reads a word and goes through its letters."""
    return (
        f'char s[105];\nscanf("%s", s);\n{init}\nfor (int i = «0¦1»; s[i]; i++) {{\n{step}\n}}\n'
        f'printf("%d\\n", {out});\n'
    )


def say(condition: str) -> str:
    """Prints YES or NO."""
    return f'printf({condition} ? "YES\\n" : "NO\\n");\n'
