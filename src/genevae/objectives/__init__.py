"""What training makes small: functions of a model and some cells."""
