// runc for a machine whose root lacks a capability, as in many containers and virtual machines.
//
// For a privileged container Docker asks runc for every capability that the kernel has, and runc
// fails with "unable to apply caps" where one of them is not in the bounding set. This program takes
// the missing ones out of the bundle's config.json (`create`) and out of the process file (`exec`),
// and then becomes runc. Where nothing is missing it changes nothing.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The capabilities by their number, see linux/capability.h.
var names = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
BPF CHECKPOINT_RESTORE`)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bounded-runc:", err)
		os.Exit(1)
	}
}

func run() error {
	for i, argument := range os.Args {
		name, value, joined := strings.Cut(argument, "=")
		if !joined && i+1 < len(os.Args) {
			value = os.Args[i+1]
		}
		var err error
		switch name {
		case "--bundle", "-b":
			err = restrict(filepath.Join(value, "config.json"))
		case "--process", "-p":
			err = restrict(value)
		}
		if err != nil {
			return err
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	return syscall.Exec(runc, os.Args, os.Environ())
}

// Takes the missing capabilities out of a bundle's configuration or a process file.
func restrict(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	process := whole
	if inner, found := whole["process"].(map[string]any); found {
		process = inner
	}
	sets, found := process["capabilities"].(map[string]any)
	if !found {
		return nil
	}
	present, err := bounding()
	if err != nil {
		return err
	}
	for set, listed := range sets {
		kept := []any{}
		list, _ := listed.([]any)
		for _, name := range list {
			if text, isText := name.(string); !isText || present[text] {
				kept = append(kept, name)
			}
		}
		sets[set] = kept
	}
	if text, err = json.Marshal(whole); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// The names of the capabilities in this process's bounding set.
func bounding() (map[string]bool, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	present := map[string]bool{}
	for line := range strings.Lines(string(status)) {
		value, found := strings.CutPrefix(line, "CapBnd:")
		if !found {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return nil, err
		}
		for number, name := range names {
			present["CAP_"+name] = bits&(1<<number) != 0
		}
	}
	return present, nil
}
