// wireguard-end is one end of a WireGuard tunnel by wireguard-go, on a tun device in its network namespace.
//
//	wireguard-end NAME MTU
//
// The environment variable WIREGUARD is its configuration, in the lines of the cross-platform userspace
// interface (https://www.wireguard.com/xplatform/). It prints "ready" when the device is up, and runs until
// it is killed.
package main

import (
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: wireguard-end NAME MTU")
	}
	mtu, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	interfaceDevice, err := tun.CreateTUN(os.Args[1], mtu)
	if err != nil {
		log.Fatal("making a tun device: ", err)
	}
	logger := device.NewLogger(device.LogLevelVerbose, "")
	end := device.NewDevice(interfaceDevice, conn.NewDefaultBind(), logger)
	if err := end.IpcSet(os.Getenv("WIREGUARD")); err != nil {
		log.Fatal("WIREGUARD: ", err)
	}
	if err := end.Up(); err != nil {
		log.Fatal("setting the device up: ", err)
	}
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	end.Close()
}
