"""How good labels are: agreement, what they come to, gold questions, annotators, the guideline, errors, what goes back to adjudication."""
