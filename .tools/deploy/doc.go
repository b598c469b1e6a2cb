// Package deploy tests the files that no module of the workspace can see: the image and
// docker-compose.yml. The parsers it needs are a module of their own, kept out of go.work
// and apart from the developer tools, so that neither changes the other's versions.
package deploy
