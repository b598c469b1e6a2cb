package embedded

func child(string) int { return 2 }
