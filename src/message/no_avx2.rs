//! What stands in for the vector searches where there are none: an [`Avx2`] that does not exist.

use std::net::Ipv4Addr;

use super::class::Class;
use super::lines::{LineEnd, Name, Search};
use super::parse::ParseErrorKind;

/// The knowledge that this processor has vector instructions we use: nobody has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Avx2 {}

/// No lines are found here.
pub(super) const LINES_MAX: usize = 0;

impl Avx2 {
    #[inline(always)]
    pub(crate) fn detect() -> Option<Avx2> {
        None
    }

    pub(crate) fn run_job<R>(self, _job: impl FnOnce() -> R) -> R {
        match self {}
    }

    pub(super) fn line_ends(self, _bytes: &[u8], _room: &mut [u16; LINES_MAX]) -> Option<std::iter::Empty<LineEnd>> {
        match self {}
    }

    pub(super) fn ipv4(self, _front: &[u8; 16]) -> Option<(Ipv4Addr, usize)> {
        match self {}
    }

    pub(crate) fn run(self, _bytes: &[u8], _class: Class) -> usize {
        match self {}
    }
}

impl Search for Avx2 {
    fn run(self, _bytes: &[u8], _class: Class) -> usize {
        match self {}
    }

    fn name(self, _bytes: &[u8], _start: usize, _length: usize) -> Result<Name, ParseErrorKind> {
        match self {}
    }
}
