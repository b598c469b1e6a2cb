# An image of one static program, for tests: a stand-in for an image from a registry.
#
#   docker build -f deploy/image/tool.Dockerfile --build-arg PROGRAM=nats-server -t millrace-ci/nats FOLDER
#
# FOLDER holds the program under the name `tool`.
FROM scratch
COPY tool /tool
ENTRYPOINT ["/tool"]
