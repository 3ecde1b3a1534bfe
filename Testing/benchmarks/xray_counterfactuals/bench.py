"""What the parts of the benchmark share, and how they report."""

from __future__ import annotations

from dataclasses import dataclass

from xaiengine.counterfactual.explained_images import ImageAnswer
from xaiengine.counterfactual.generator.inversion import Inversion, invert
from xaiengine.counterfactual.generator.latent_sample import LatentSample, draw_sample
from xaiengine.counterfactual.generator_context import Setting
from xaiengine.models.explained_model import ExplainedModel

from .cases import Cases

REACH, FRAMES, STEPS, SAMPLES = 4.0, 11, 60, 2000
DEFAULT = "logistic"
METHODS = (DEFAULT, "covariance", "gradient", "ridge", "weights", "style", "local", "covariance, all", "plain ridge")
"""Ways of finding a direction; "all" moves the spatial code too."""


def report(what: str, measured: str, goal: str = "", reached: bool | None = None) -> None:
    verdict = "" if reached is None else ("reached" if reached else "MISSED")
    print(f"{what:<70} {goal and 'goal ' + goal:<14} {measured:<30} {verdict}".rstrip(), flush=True)


@dataclass(eq=False)
class Bench:
    """What the parts share; made when it is first needed."""

    setting: Setting
    model: ExplainedModel
    answer: ImageAnswer
    cases: Cases
    methods: tuple[str, ...] = ()
    _sample: LatentSample | None = None
    _inversion: Inversion | None = None

    @property
    def sample(self) -> LatentSample:
        if self._sample is None:
            leading = self.setting.moving("auto")
            self._sample = draw_sample(self.setting.space, self.answer, SAMPLES, seed=0, leading=leading)
        return self._sample

    def inverted(self, refine: str = "latent", steps: int = STEPS) -> Inversion:
        values = self.answer(self.cases.images).detach()
        known = self.setting.score_latents(self.model, self.answer.answer, values)
        return invert(
            self.setting.space,
            self.answer,
            self.setting.geometry,
            self.cases.images,
            steps=steps,
            refine=refine,
            values_spread=self.sample.spread,
            values=values,
            score_latents=known,
        )

    @property
    def inversion(self) -> Inversion:
        if self._inversion is None:
            self._inversion = self.inverted()
        return self._inversion
