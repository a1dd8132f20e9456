"""From a folder of photographs and mattes to weights in the running camera."""
