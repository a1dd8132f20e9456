"""The learned room on the GPU: the worker learns it, and each frame is compared with it there."""
