package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// stages are the services that run one binary each, in the order of the line.
var stages = []string{"ingest", "validate", "enrich", "standardize", "route", "scrape", "aggregate", "archive"}

func compose(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../../docker-compose.yml"}, cli.WithName("millrace"), cli.WithOsEnv)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestEveryContainerHasNoMoreRightsThanItNeeds(t *testing.T) {
	t.Parallel()
	for name, service := range compose(t).Services {
		if !service.ReadOnly {
			t.Errorf("%s may write to its root file system", name)
		}
		if !slices.Contains(service.CapDrop, "ALL") || len(service.CapAdd) > 0 || service.Privileged {
			t.Errorf("%s keeps capabilities", name)
		}
		if !slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may gain privileges", name)
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %d on %q", name, port.Target, port.HostIP)
			}
		}
		if _, tag, ok := strings.Cut(service.Image, ":"); !ok || tag == "latest" {
			t.Errorf("%s has the unpinned image %q", name, service.Image)
		}
	}
}

func TestSecretsAreFilesOnly(t *testing.T) {
	t.Parallel()
	secret := []string{"S3_ACCESS_KEY", "S3_SECRET_KEY", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"}
	for name, service := range compose(t).Services {
		for variable := range service.Environment {
			if slices.Contains(secret, variable) {
				t.Errorf("%s has %s in its environment", name, variable)
			}
		}
	}
}

func TestEachStageIsAServiceThatWaitsForProvision(t *testing.T) {
	t.Parallel()
	services := compose(t).Services
	for _, stage := range stages {
		service, ok := services[stage]
		if !ok {
			t.Errorf("no service %s", stage)
			continue
		}
		if !slices.Equal(service.Entrypoint, []string{"/" + stage}) {
			t.Errorf("%s starts %q", stage, service.Entrypoint)
		}
		if service.User != "65532:65532" {
			t.Errorf("%s runs as %q", stage, service.User)
		}
		if service.DependsOn["provision"].Condition != types.ServiceConditionCompletedSuccessfully {
			t.Errorf("%s does not wait for provision", stage)
		}
		check := service.HealthCheck
		if check == nil || check.Interval == nil || check.Timeout == nil || check.Retries == nil {
			t.Errorf("%s has no complete health check", stage)
			continue
		}
		if time.Duration(*check.Interval) != 30*time.Second || time.Duration(*check.Timeout) != 10*time.Second || *check.Retries != 3 {
			t.Errorf("%s is not checked every 30 s, for 10 s, three times", stage)
		}
		want := []string{"CMD", "/millrace", "healthcheck", "http://127.0.0.1:8080/readyz"}
		if !slices.Equal(check.Test, want) || *service.Environment["HTTP_ADDR"] != "0.0.0.0:8080" {
			t.Errorf("%s is checked by %q and listens on %q", stage, check.Test, *service.Environment["HTTP_ADDR"])
		}
	}
}

func TestEveryStageIsGivenEverySetting(t *testing.T) {
	// How to reach broker and store is fixed by the compose file or needs files of its own.
	connects := regexp.MustCompile("^(NATS|S3)_")
	provisions := []string{"STREAM_REPLICAS"}
	example, err := os.ReadFile("../../deploy/.env.example")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, found := range regexp.MustCompile(`(?m)^(?:# )?([A-Z][A-Z0-9_]*)=`).FindAllSubmatch(example, -1) {
		if name := string(found[1]); !connects.MatchString(name) && !slices.Contains(provisions, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Fatal("deploy/.env.example names no setting")
	}
	for _, name := range names {
		t.Setenv(name, "given") // one that is not set is not passed on
	}
	services := compose(t).Services
	for _, stage := range stages {
		for _, name := range names {
			if services[stage].Environment[name] == nil {
				t.Errorf("docker-compose.yml does not pass %s to %s", name, stage)
			}
		}
	}
}

func dockerfile(t *testing.T, name string) []instructions.Stage {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	result, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range result.Warnings {
		t.Errorf("%s: %s", name, warning.Short)
	}
	parsed, _, err := instructions.Parse(result.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// settings returns the instructions of a stage that do not bring files.
func settings(stage instructions.Stage) []string {
	var lines []string
	for _, command := range stage.Commands {
		if _, ok := command.(*instructions.CopyCommand); !ok {
			lines = append(lines, command.(interface{ String() string }).String())
		}
	}
	return lines
}

func TestTheImageIsTheSameWhicheverWayItIsBuilt(t *testing.T) {
	t.Parallel()
	built := dockerfile(t, "Dockerfile")
	if len(built) != 3 {
		t.Fatalf("%d build stages, want prebuilt, build, source", len(built))
	}
	prebuilt, source := built[0], built[2]
	// The classic builder makes all stages up to the target: a base image before prebuilt
	// would be pulled for it.
	if prebuilt.Name != "prebuilt" || prebuilt.BaseName != "scratch" || source.Name != "source" || source.BaseName != "scratch" {
		t.Fatalf("the first stage is %s from %s, the last %s from %s", prebuilt.Name, prebuilt.BaseName, source.Name, source.BaseName)
	}
	if got, want := settings(source), settings(prebuilt); !slices.Equal(got, want) {
		t.Errorf("source has\n%s\nprebuilt has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !slices.Contains(settings(prebuilt), "USER 65532:65532") {
		t.Error("the image runs as root")
	}
	var copied []string
	for _, command := range prebuilt.Commands {
		if c, ok := command.(*instructions.CopyCommand); ok {
			copied = append(copied, c.SourcePaths...)
		}
	}
	for _, binary := range append(slices.Clone(stages), "millrace") {
		if !slices.Contains(copied, "bin/"+binary) {
			t.Errorf("prebuilt does not hold %s", binary)
		}
	}
}

func TestTheClassicBuilderUnderstandsEveryInstruction(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Dockerfile", "image/tool.Dockerfile"} {
		for _, stage := range dockerfile(t, name) {
			for _, command := range stage.Commands {
				switch c := command.(type) {
				case *instructions.CopyCommand:
					if c.Chmod != "" || c.Link || len(c.SourceContents) > 0 {
						t.Errorf("%s: %s", name, c)
					}
				case *instructions.RunCommand:
					if len(c.FlagsUsed) > 0 || len(c.Files) > 0 {
						t.Errorf("%s: %s", name, c)
					}
				}
			}
		}
	}
}

func TestTheImageIsBuiltWithTheGoOfTheWorkspace(t *testing.T) {
	t.Parallel()
	work, err := os.ReadFile("../../go.work")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(work), "\n")
	language := strings.TrimPrefix(first, "go ") // "1.26.0"
	minor := language[:strings.LastIndex(language, ".")+1]
	if base := dockerfile(t, "Dockerfile")[1].BaseName; !strings.HasPrefix(base, "golang:"+minor) {
		t.Errorf("the base image is %s, go.work says %s", base, language)
	}
}
