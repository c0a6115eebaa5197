"""The fronts for arrays on a GPU, each with the functions of maskmm._device.Front; loaded when such arrays come."""
