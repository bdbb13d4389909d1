"""The chart as objects: rendered, linted and judged by Helm's own library and Kubernetes' schemas."""

import pathlib

import helm_python
import kubernetes_validate
import yaml

CHART = str(pathlib.Path(__file__).parent.parent / "enfilade")
RELEASE, NAMESPACE = "gw", "mcp"
# The first that the chart is for (its kubeVersion), and the last that the schemas know.
KUBERNETES = ("1.30", kubernetes_validate.latest_version())


class Refused(Exception):
    """Helm does not take the values."""


def render(values):
    """All objects of a release with these values, as an install would make them."""
    with helm_python.Chart.load(CHART) as chart:
        try:
            chart.validate_schema(values)
            rendered = chart.render(values, name=RELEASE, namespace=NAMESPACE, revision=1, is_install=True)
        except helm_python.HelmError as error:
            raise Refused(str(error)) from error
    texts = (text for path, text in sorted(rendered.items()) if path.endswith(".yaml"))
    return [one for text in texts for one in yaml.safe_load_all(text) if one is not None]


def lint(values):
    """What `helm lint --strict` finds; that a chart might have a picture is no finding."""
    report = helm_python.lint(CHART, values, strict=True, namespace=NAMESPACE)
    found = [f"{one['path']}: {one['error']}" for one in report["messages"] if "icon" not in one["error"]]
    return found + report["errors"]


def invalid(objects):
    """What Kubernetes would not take, strictly: unknown fields are refused."""
    found = []
    for version in KUBERNETES:
        for one in objects:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                place = "/".join(str(step) for step in error.path)
                found.append(f"{version} {one['kind']} {one['metadata']['name']}: {place}: {error.message}")
    return found


def of_kind(objects, *kinds):
    return [one for one in objects if one["kind"] in kinds]


def pod_templates(objects):
    """(owner's kind and name, pod) of everything that starts pods."""
    found = []
    for one in objects:
        if one["kind"] == "Pod":
            found.append((one, one))
        elif "template" in one.get("spec", {}):
            found.append((one, one["spec"]["template"]))
    return found
