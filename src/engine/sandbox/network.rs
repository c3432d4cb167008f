//! The network of a starter's steps: a loopback device and no way out.
//!
//! To make a network namespace takes as long as all the rest of a sandbox, so that one which a step has left as it found it
//! serves the next. It is unaware of the steps.

use std::{
    fs, io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd,
};

use super::{
    kernel,
    root::{Failure, attempt},
};

/// A network namespace in which this process is, as it was when it was new.
#[derive(Debug)]
pub(super) struct Network {
    fresh: Counters,
}

/// What every packet and every attempt to send one changes. A socket that was only bound is gone with its process.
#[derive(Debug, PartialEq, Eq)]
struct Counters {
    devices: Vec<u8>,
    protocols: Vec<u8>,
}

impl Network {
    /// Takes charge of the namespace into which this process has just come.
    pub(super) fn new() -> Result<Self, Failure> {
        attempt(|| "raise the loopback device".into(), raise())?;
        let fresh = attempt(|| "look at the network".into(), Counters::look())?;
        Ok(Self { fresh })
    }

    /// Makes another namespace if this one was used: connections that are winding up would hold their ports, and counters
    /// would tell one step of another.
    pub(super) fn restore(&mut self) -> Result<(), Failure> {
        let now = attempt(|| "look at the network".into(), Counters::look())?;
        if now != self.fresh {
            attempt(|| "make a network".into(), kernel::unshare(libc::CLONE_NEWNET))?;
            *self = Self::new()?;
        }
        Ok(())
    }
}

/// Switches the loopback device on.
pub(super) fn raise() -> io::Result<()> {
    // A socket to ask the kernel about network devices through; it listens to nothing.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    kernel::raise_loopback(socket.as_fd())
}

impl Counters {
    fn look() -> io::Result<Self> {
        Ok(Self {
            devices: fs::read("/proc/self/net/dev")?,
            protocols: fs::read("/proc/self/net/snmp")?,
        })
    }
}
