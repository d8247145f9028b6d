"""What a study will do: factors, designs, runs, cost."""
