"""How a model is asked: the system message and what stands around a problem's statement."""

from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from evaluator.config.config_file import Section

STATEMENT = "{statement}"
# Values of ``system`` that are no text.
TEMPLATE_DEFAULT, NO_SYSTEM = "default", "none"

Preset = Literal["upstream-luogu", "upstream-codecontests"]

# What the upstream trainers send, as docs/suites.md describes it with its sources.
_PRESETS: dict[str, dict[str, str]] = {
    "upstream-luogu": {
        "system": (
            "你是编程竞赛专家。要求你直接输出c++代码。你必须输出能正确运行且能正确解答问题的代码。"
            "如果需要输出思考，也必须将思考过程限制在128个token内。"
        ),
        "template": (
            "将最终解决方案放在单个代码块中：\n```cpp\n<your code here>\n```\n\n\n"
            f"题目内容:\n\n{STATEMENT}"
        ),
    },
    "upstream-codecontests": {
        "system": (
            "You are an expert competitive programmer. Output valid C++ code that compiles and "
            "solves the problem correctly."
        ),
        "template": (
            "You will be given a programming contest problem. Please reason step by step and "
            "provide a complete C++ implementation.\n"
            "Output the solution in a code block. Do not include debugging info or extra output. "
            "Limit reasoning to 128 tokens.\n\n\n"
            f"【Problem Description】\n{STATEMENT}\n\nPlease provide your C++ solution:"
        ),
    },
}


class PromptConfig(Section):
    """What stands before and around a problem's statement, inside the chat template.

    Attributes:
        preset: What an upstream project trained with; brings ``system`` and ``template``. In a file
            its name may stand for the whole section.
        system: ``default`` sends none; ``none`` keeps out that of the chat template as well; else
            the system message.
        template: The user's message, with one ``{statement}``; else a ready-made prompt is sent.
    """

    preset: Preset | None = None
    system: str = TEMPLATE_DEFAULT
    template: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _filled_by_its_preset(cls, content: Any) -> Any:
        if isinstance(content, str):
            content = {"preset": content}
        if isinstance(content, dict) and isinstance(content.get("preset"), str):
            return {**_PRESETS.get(content["preset"], {}), **content}
        return content

    @field_validator("template")
    @classmethod
    def _takes_one_statement(cls, template: str | None) -> str | None:
        if template is not None and (count := template.count(STATEMENT)) != 1:
            raise ValueError(f"expected {STATEMENT} once, it stands there {count} times")
        return template

    @model_validator(mode="after")
    def _is_its_preset(self) -> Self:
        texts = {"system": self.system, "template": self.template}
        if self.preset is not None and texts != _PRESETS[self.preset]:
            raise ValueError(
                f"preset {self.preset} has its own system and template; leave out preset, or them"
            )
        return self

    def question(self, statement: str, ready_made: str | None) -> str:
        """What of a problem is asked."""
        return statement if self.template is not None else ready_made or statement

    def user_message(self, statement: str, ready_made: str | None) -> str:
        """The same with what stands around it."""
        question = self.question(statement, ready_made)
        return question if self.template is None else self.template.replace(STATEMENT, question)
