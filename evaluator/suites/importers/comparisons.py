"""How a statement wants outputs to be compared, where that is not line by line.

Numbers up to an error and letters in any case are comparisons of this project, used where the words
are plain. One of several right outputs, and an error without a number, need a special judge. The
patterns write ``N`` for a small number of ``plain_sentences``.
"""

import html
import re
from collections.abc import Iterable
from itertools import zip_longest

from evaluator.suites.importers.draft import Reason
from evaluator.suites.importers.screening import says
from evaluator.suites.problem import Checker, ErrorKind, TestCase

_HALF = 1 << 17  # characters at a statement's beginning and end; bounds the time of a hostile one
_MAX_SENTENCE, _OVERLAP = 600, 200  # a longer sentence is looked at in pieces

_SIGNS = str.maketrans(
    dict.fromkeys("−–—‐‑－", "-")
    | dict.fromkeys("’‘ʼ´", "'")
    | dict.fromkeys("$`{}*~_\\", "")
    | {"（": "(", "）": ")", "，": ",", "≤": "<=", "⩽": "<=", "＜": "<", "×": "x", "\xa0": " "}
)
_SUPERSCRIPT = re.compile("[⁻⁰¹²³⁴-⁹]+")
_DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_MARKS = {
    r"\\(?:leqslant|leq|le)(?![a-z])": "<=",
    r"\\lt(?![a-z])": "<",
    r"\\(?:times|cdot)(?![a-z])": "x",
    r"\\(?:text|mathrm|mathbf|rm|left|right|operatorname|displaystyle)(?![a-z])": "",
    r"\\[,;! ]": " ",
    r"<sup>": "^",
    r"</?(?:p|b|i|tt|em|br|li|ul|div|sup|sub|span|code|strong|font|var)\b[^<>]{0,200}>": "",
}
_SENTENCE_END = re.compile(r"[。;；!?！？]|\.(?=\s|$)|\n\s*\n")
_SMALL_NUMBER = re.compile(
    r"(?<![\d.])(?:(?P<mantissa>\d+(?:\.\d+)?) ?e ?- ?(?P<exponent>\d{1,2})(?!\d)"
    r"|(?:(?P<times>\d+(?:\.\d+)?) ?x ?)?10 ?(?:的 ?)?\^? ?\(? ?(?:-|负) ?(?P<power>\d{1,2})(?!\d)"
    r"|(?P<decimal>0?\.\d{1,18})(?![\d.]))"
    r"(?! ?(?:seconds?|s|ms|[ckm]?m|k?g|met\w+|degrees?|percent)\b| ?[%秒毫米厘度克元])"
)


def _any_of(*patterns: str) -> re.Pattern[str]:
    words = {"GIVE": _GIVE, "PRINT": _PRINT, "ANSWERS": _ANSWERS, "SEVERAL": _SEVERAL, "GAP": _GAP}
    words |= {"PLAIN": "(?:answer|solution|output)s?", "ONE": "[个种组条对串项份]"}
    text = "|".join(patterns)
    for name, pattern in words.items():
        text = text.replace(name, pattern)
    return re.compile(text.replace("N", r"\x01(\d+)\x02"))


_GIVE = r"(?:print|output|return|report|find|give|show|construct|display|provide|write|list)"
_PRINT = r"(?:print|output|return|report|display|answer)"
_ANSWERS = r"(?:answer|solution|output|result|way|construction|option|arrangement|sequence)s?"
_SEVERAL = r"(?:multiple|several|many|more than one|different|various|two or more)"
_GAP = r"(?:(?!\b(?:if|when|otherwise)\b)[^\x01])"

_SEVERAL_RIGHT = _any_of(
    r"(?:输出|给出|打印|构造)[^,\n]{0,12}任[意何]一ONE",
    r"(?:输出|给出|打印)[^,\n]{0,6}(?:任一|任[意何](?=的|可行|合法|满足|符合|正确|解|答案|方案))",
    r"(?:任意|随[便意])(?:输出|给出|打印)|(?:输出|给出|打印)随[便意]",
    r"任[意何]一ONE[^,\n]{0,12}(?:即可|[均都皆]可(?!以?[到走经通移放选从])|就[行可])",
    r"任[意何]一ONE[^,\n]{0,6}[均都](?:会?被?(?:视为|认为|算作?|是)?正确|会被接受)",
    r"任[意一何]一?ONE?(?:可行|合法|正确)?的?(?:解|答案|方案)[^,\n]{0,6}(?:即可|[均都]可|正确|可以)",
    r"(?:输出|给出|打印)(?:其中|某)的?(?:之一|[一任某](?:ONE|意))|任选一ONE",
    r"(?:多解|多ONE(?!测试|数据|询问)|不止一ONE)[^\n]{0,30}(?:输出|给出)[^,\n最小大]{0,6}"
    r"一ONE(?:即可|就[行可]|$)",
    r"只(?:需要?|要)(?:输出|给出)(?:其中)?一ONE(?:可行|合法|满足|正确|解|方案|即可)",
    r"(?:输出|打印)[^输\n]{0,20}(?:顺序|次序)(?:可以?)?(?:任意|不限|随意|不重要|无所谓|不作?要求)",
    r"任[意何]的?(?:顺序|次序)[^,\n]{0,8}(?:输出|打印)|不(?:要求|限制?)输出的?顺序",
    r"任[意何]的?(?:顺序|次序)[^,\n]{0,4}(?:[均都皆]可|即可)",
    r"(?:输出|打印)[^,\n]{0,20}任[意何]的?(?:顺序|次序)",
    r"\bGIVE(?:s|ed|ing)? any\b(?! (?:extra|additional|unnecessary|other|more|further|debug|text|"
    r"(?:white)?spaces?|prompts?|messages?|words?|blank|empty|trailing|leading|explanation|number))",
    r"\b(?:GIVE|accept)(?:s|ed|ing)?\b[^\n]{0,40}\bany (?:one )?of\b",
    r"\bany (?:valid|correct|optimal|suitable|possible|feasible|legal|acceptable|such) PLAIN\b",
    r"\bany (?:one )?of (?:the|these|those) (?:\w+ )?PLAIN\b|\bany PLAIN (?:is|are|will)\b",
    r"\bSEVERAL (?:\w+ ){0,3}ANSWERS\b[^\n]{0,100}\bany\b(?! case| letter)",
    r"\bSEVERAL\b[^\n]{0,100}\bGIVE (?:only |just )?(?:one|1)(?: of (?:them|those|these))?(?:$|,)",
    r"\bany(?: one)? (?:is|are|will be|would be) (?:accept|fine|allow|ok\b|correct)",
    r"\bPRINT(?:s|ed|ing)?\b[^\n]{0,100}\b(?:any|arbitrary)(?: \w+)? order\b",
    r"\b(?:any|arbitrary)(?: \w+)? order\b[^\n]{0,60}\bPRINT(?:ed)?\b",
    r"\bany order is (?:accept|allow)",
    r"\bPRINT\b[^\n]{0,100}\border\b[^\n]{0,40}(?:n't|not) (?:matter|important|relevant)",
    r"\border\b[^\n]{0,20}\bPRINTs?\b[^\n]{0,40}(?:n't|not) (?:matter|important|relevant)",
)
_NOT_UNIQUE = _any_of(
    r"(?:解|答案|方案)[^,\n]{0,4}不唯一",
    r"\bPLAIN (?:is|are|may|might)[^\n]{0,9}\bnot\b[^\n]{0,9}\bunique",
)
_TIE = re.compile(r"字典序|最[小大早短前]|lexicographic|smallest|minim|first|largest|maxim")
_SPECIAL_JUDGE = re.compile(
    r"(?<![a-z])(?:spj|special[ -]?(?:judge|checker))(?![a-z])|非传统题|自定义校验器|特殊评测"
)

_ERROR = _any_of(
    r"\berrors?\bGAP{0,80}N",
    r"N[^\x01]{0,30}\b(?:errors?|tolerance|precision|accuracy)\b",
    r"\b(?:tolerance|precis\w+|accura\w+|deviat\w+)\bGAP{0,60}N",
    r"\bwithin (?:an? )?(?:\w+ )?N (?:of|from)\b",
    r"\bdiffer\w*\bGAP{0,100}N",
    r"\|[^|\n]{1,20}-[^|\n]{1,20}\|(?:[^\n\x01]{0,40}max[^\n\x01]{0,30}|[^\w\x01]{0,9})N",
    r"误差GAP{0,60}N|N[^\x01]{0,12}误差|精度GAP{0,20}N|N[^\x01]{0,8}精度",
    r"相差[^\x01]{0,12}N|差(?:值|距)?的?(?:绝对值)?(?:不超过|小于|不大于|<=?|在)[^\x01]{0,6}N",
)
_ERROR_WITHOUT_NUMBER = _any_of(
    r"\b(?:absolute|relative)\b[^\n]{0,20}\berrors?\b[^\n]*(?:accept|consider|allow|toler|correct"
    r"|at most|exceed|(?:less|more|greater) than|within|up to)",
    r"(?:accept|consider|allow|toler|correct)[^\n]*\b(?:absolute|relative)\b[^\n]{0,20}\berrors?\b",
    r"\berrors? (?:is|are|will be) (?:allow|accept|ignor|toler)",
    r"\bany number of (?:decimal|digit)|\b(?:sufficient|enough|high) precision\b",
    r"\bas (?:accurate|precise)(?:ly)? as possible\b",
    r"误差[^\n]{0,12}(?:允许|忽略|以内|范围内|不超过|视为|即可)|允许[^\n]{0,8}误差|任意多?位小数",
    r"\bat least \w+ (?:decimals?\b|digits (?:after|of precision))",
    r"(?:至少|不少于)[^,\n]{0,8}位小数|小数点后至少",
)
_JUDGED = re.compile(
    r"answer|output|print|correct|jury|judg|checker|accept|consider|result|allow|accura|precis"
    r"|答案|输出|返回|结果|要求|标准|正确|允许|即可|视为|评测|通过|精度"
)
_ABOUT_THE_ANSWER = re.compile(
    r"correct|jury|judge|expected|official|true|actual|exact|答案|标准|正确"
)
_ABSOLUTE = re.compile(r"absolute|绝对(?!值)|误?差的?绝对值|\|[^|\n]{1,20}-[^|\n]{1,20}\|(?!.*max)")

_ANY_CASE = _any_of(
    r"\b(?:letters?|characters?|words?|strings?|yes|no|ANSWERS|verdicts?|each|every|GIVE)\b[^\n]{0,60}"
    r"\bin (?:any|either|arbitrary)(?: letter)? (?:case|register)\b",
    r"\bGIVE\b[^\n]{0,60}\b(?:upper|lower)[ -]?(?:case)? or (?:in )?(?:lower|upper)[ -]?case\b",
    r"\bcase\b[^\n]{0,50}(?:(?:n't|not) (?:matter|important|relevant|significant)|irrelevant)",
    r"大小写[^,\n]{0,4}(?:[均都皆]可|不限|任意|随[意便]|都行|不作?要求|没有要求|混用)|任意[的]?大小写",
)
_CASE_IGNORED = re.compile(
    r"case[ -]?insensitiv|not case[ -]?sensitive"
    r"|(?:ignor\w+|regardless of) (?:the )?(?:letter )?case"
    r"|(?:不区分|忽略|无视|不考虑|不分)[^,\n]{0,4}大小写|大小写(?:不敏感|不(?:作|做)?区分|无关)"
)
_DIFFERENCES = ("differ", "差", "相差", "|")
_OUTPUT = re.compile(
    r"print|output|answer|yes|display|report|checker|judge|verdict|输出|打印|返回|答案|评测|校验"
)
# In doubt a word about case is about the input: judged too loosely, a program that prints what it
# reads would pass.
_CHOICE = re.compile(r"yes|answer|verdict|答案|\bor\b|otherwise|或|否则")  # between known outputs
_PERMITTED = re.compile(r"大小写[^,\n]{0,4}(?:[均都皆]可|都行|随[便意])")
_CHECKER = re.compile(r"\bcheckers?\b|评测|校验器")  # whose comparing is that of outputs
_INPUT = re.compile(
    r"\binputs?\b|\bgiven\b|\breads?\b|\bmade (?:up )?of\b|(?<!每组)输入|每组输入(?!,)|读入|给定"
    r"|(?:\b(?:contain|consist|compris|compos)\w*+|包含|含有|组成|构成)"
    r"""(?! ?(?:of )?["'“(]?(?:yes|no)(?![a-z]))"""
)
_COMPARED = re.compile(r"compar|sort|alphabetical|lexicograph|比较|排序|字典序")
_WORDS_ALIKE = re.compile(
    rf"{_COMPARED.pattern}|match|search|equal|same|identical|count|occur|frequen|distinct|different"
    r"|palindrom|anagram|匹配|查找|搜索|相同|相等|不同|统计|出现|重复|次数|回文"
)
_CASE_CHANGED = _any_of(
    r"\b(?:upper|lower)[ -]?cased? (?:\w+ ){0,4}(?:to|into|with|by|becomes?) (?:\w+ ){0,4}"
    r"(?:upper|lower)[ -]?case",
    r"\b(?:convert|turn|transform|translat|chang)\w*+[^\n]{0,60}\b(?:to|into|in) (?:all )?"
    r"(?:upper|lower)[ -]?case(?! (?:or|and)\b)",
    r"\bPRINT\b[^\n]{0,60}(?<!or )\b(?:in|to) (?:all )?(?:upper|lower)[ -]?case\b(?! (?:or|and)\b)",
    r"\b(?:swap|toggl|invert|flip|switch|revers|chang|convert)\w*+ "
    r"(?:(?:the|its|their|each|every|letter) ){0,3}cases?\b",
    r"\bcases? (?:of [^\n]{0,40})?"
    r"(?:swapped|toggled|inverted|flipped|switched|reversed|changed|converted)",
    r"capitali[sz]|\b(?:upper|lower|swap)[ -]?cas(?:ed|ing)\b|\bswap[ -]?case",
    r"(?:[转变换改化]|[翻反]转|互换|交换|切换)[^,\n输]{0,8}[大小]写",
    r"大小写[^,\n]{0,6}(?:[互转变对切交]换|[翻反]转)",
    r"(?:全部?|都|以|用|输出[^,\n]{0,8})(?<!大)[大小]写(?![或/和、均皆都不任随])",
    r"原样|注意大小写|\b(?:original|same) (?:letter )?case\b",
)
# what a program reads in any order, or any number, before it prints
_ANY_INPUT = _any_of(
    r"(?:给出任[意何]|任[意何]给出)一ONE(?:正|负|非负)?(?:[整实小]?数|自然数|字符|字母|单词|年份|日期)"
    r"[^,\n解满使符]{0,20},(?=[请你并再]{0,2}(?:输出|打印|求|计算|判断))",
    r"\b(?:any|arbitrary) order (?:is|are|was|were) given\b",
    r"\bgiven in (?:an )?(?:any|arbitrary) order\b",
)


def asked_comparison(statement: str, tests: Iterable[TestCase]) -> Checker | Reason | None:
    """How outputs must be compared as far as a statement tells; None for the usual way.

    A reason says why no comparison of this project can be right.

    Example:
        >>> asked_comparison("输出答案，绝对误差不超过 $10^{-4}$。", [])
        Checker(kind='float', tolerance=0.0001, source=None, error='absolute')
    """
    sentences, numbers = plain_sentences(statement)
    pairs = list(zip_longest(sentences, sentences[1:], fillvalue=""))
    several = any(says(_ANY_INPUT.sub("", sentence), _SEVERAL_RIGHT) for sentence in sentences)
    if several or any(says(a, _NOT_UNIQUE) and not _TIE.search(a + b) for a, b in pairs):
        return Reason("special-judge", "several outputs are right, and there is no special judge")
    caseless = _any_case(sentences) and any(re.search("[A-Za-z]", t.output) for t in tests)
    allowed = _errors(sentences, numbers)
    kinds, sizes = {kind for kind, _ in allowed}, {size for _, size in allowed}
    vague = not allowed and any(_ERROR_WITHOUT_NUMBER.search(sentence) for sentence in sentences)
    if vague or len(sizes) > 1 or (allowed and caseless):
        return Reason("special-judge", "an error is allowed, and not plain which; no special judge")
    if allowed:
        return Checker("float", sizes.pop(), error=kinds.pop() if len(kinds) == 1 else None)
    if caseless:
        return Checker("caseless")
    if any(says(sentence, _SPECIAL_JUDGE) for sentence in sentences):
        return Reason("special-judge", "speaks of a special judge, and there is none")
    return None


def plain_sentences(statement: str) -> tuple[list[str], list[float]]:
    r"""Give a statement's sentences in small letters without marks, and its small numbers.

    One (``$10^{ - 6}$``, ``1e-6``, ``0.001``) becomes ``\x01K\x02``, its place in the list being K.

    Example:
        >>> plain_sentences("Print it. The **error** is at most $10^{ - 6}$.")
        (['print it', 'the error is at most \x010\x02'], [1e-06])
    """
    if len(statement) > 2 * _HALF:
        statement = f"{statement[:_HALF]}\n\n{statement[-_HALF:]}"
    text = html.unescape(statement).lower()
    for pattern, plain in _MARKS.items():
        text = re.sub(pattern, plain, text)
    text = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_DIGITS), text.translate(_SIGNS))
    numbers: list[float] = []

    def token(match: re.Match[str]) -> str:
        exponent = match["exponent"] or match["power"]
        spelled = match["decimal"] or f"{match['mantissa'] or match['times'] or 1}e-{exponent}"
        numbers.append(float(spelled))
        return f"\x01{len(numbers) - 1}\x02"

    parts = _SENTENCE_END.split(text.replace("\x01", "").replace("\x02", ""))
    joined = (re.sub(r"\s+", " ", part).strip() for part in parts)
    sentences = (
        part[start : start + _MAX_SENTENCE]
        for part in joined
        for start in range(0, max(1, len(part) - _OVERLAP), _MAX_SENTENCE - _OVERLAP)
    )
    return [_SMALL_NUMBER.sub(token, part) for part in sentences if part], numbers


def _errors(sentences: list[str], numbers: list[float]) -> list[tuple[ErrorKind | None, float]]:
    """Find the errors that the statement allows: which kind, and how large."""
    found: list[tuple[ErrorKind | None, float]] = []
    for index, sentence in enumerate(sentences):
        around = " ".join(sentences[max(0, index - 1) : index + 2])
        absolute = _ABSOLUTE.search(sentence) is not None
        relative = "relative" in sentence or "相对" in sentence
        one: ErrorKind = "absolute" if absolute else "relative"
        kind = None if absolute == relative else one
        for match in _ERROR.finditer(sentence):
            about = _ABOUT_THE_ANSWER if match[0].startswith(_DIFFERENCES) else _JUDGED
            number = next(numbers[int(group)] for group in match.groups() if group)
            if 0 < number < 1 and about.search(around):
                inside = (numbers[int(place)] for place in re.findall(r"\x01(\d+)", sentence))
                found += [(kind, number), *((kind, other) for other in inside if other < 0.01)]
    return found


def _any_case(sentences: list[str]) -> bool:
    """Whether letters of outputs, and not of what is read or compared, may be in any case."""
    if any(_CASE_CHANGED.search(sentence) for sentence in sentences):
        return False
    return any(map(_allows_any_case, ["", *sentences], sentences))


def _allows_any_case(before: str, sentence: str) -> bool:
    ignored = _CASE_IGNORED.search(sentence)
    if not (ignored or _ANY_CASE.search(sentence)):
        return False
    about = sentence
    if not _OUTPUT.search(sentence):
        about = f"{before} {sentence}"
        goes_on = _OUTPUT.search(before) and (ignored or _CHOICE.search(before))
        if not goes_on and not _PERMITTED.search(sentence):
            return False
    alike = (_WORDS_ALIKE if ignored else _COMPARED).search(about)
    return not _INPUT.search(about) and (alike is None or bool(_CHECKER.search(sentence)))
