"""What a finished run does with new radiographs, and how it is handed on."""
