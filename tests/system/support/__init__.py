"""What the system tests share: tiffin as a command, images and registries made on the spot, and
the machine as it looks from outside of the engine."""
