package main

// storeCmd groups the commands about the object store.
type storeCmd struct{}
