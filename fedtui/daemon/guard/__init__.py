"""The memory guard: sees a shortage coming, keeps it from happening, acts gently when it must. See docs/memory.md."""
