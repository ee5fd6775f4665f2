"""What is compared: tasks, specs, the plan and its execution, the report."""
