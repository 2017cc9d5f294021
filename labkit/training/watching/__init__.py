"""Ways to see a training: in the terminal, as TensorBoard's files, in an experiment tracker."""
