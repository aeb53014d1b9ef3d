"""From Hounsfield units to mg/cm3 of hydroxyapatite, by the rods of a phantom or without one."""
