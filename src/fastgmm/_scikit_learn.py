"""scikit-learn's base classes and its decorator of `fit`, with types.

scikit-learn has no types. To a type checker a class with an unknown base has every attribute, and what an
unknown decorator returns has any signature: neither a misspelt method nor a wrong argument would be found. So
type checkers see the classes below, which have what users and we call; a running program has scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sklearn.base import _fit_context

if TYPE_CHECKING:

    class BaseEstimator:
        """Parameters of the constructor, and routing of metadata."""

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def get_metadata_routing(self) -> Any: ...
        def set_fit_request(self, *, sample_weight: bool | str | None = ...) -> Self: ...
        def set_score_request(self, *, sample_weight: bool | str | None = ...) -> Self: ...
        def _validate_params(self) -> None: ...
        def __sklearn_tags__(self) -> Any: ...

    class DensityMixin:
        """Densities, which have `score`."""

else:
    from sklearn.base import BaseEstimator, DensityMixin

__all__ = ["BaseEstimator", "DensityMixin", "validated"]

Method = TypeVar("Method", bound=Callable[..., Any])


def validated(method: Method) -> Method:
    """Decorate `fit` and its like: scikit-learn checks the constructor's options before each call.

    The signature stays, for type checkers as well.
    """
    decorated: Method = _fit_context(prefer_skip_nested_validation=True)(method)
    return decorated
