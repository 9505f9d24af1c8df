"""Classification front end: ResNet students from ResNet teachers."""
