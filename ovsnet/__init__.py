"""ovsnet: a Kubernetes pod network on Open vSwitch."""

__version__ = "0.1.0"
