//! Bytes that outlive their batch: what a transaction may have to send again.
//!
//! Buffers come in size classes and go back to a free list, so that a steady load allocates nothing.

/// Free buffers by capacity class.
#[derive(Debug, Default)]
pub struct Buffers {
    free: [Vec<Vec<u8>>; CLASSES],
}

/// 256 bytes to 64 KiB: a short response to the largest message.
const CLASSES: usize = 9;
const SMALLEST: usize = 256;
/// Free bytes kept per class; beyond it buffers go back to the allocator, so that a burst does not stay in memory for good.
const FREE_BYTES_MAX: usize = 8 << 20;

fn class_of(len: usize) -> usize {
    let units = len.div_ceil(SMALLEST).max(1).next_power_of_two();
    (units.trailing_zeros() as usize).min(CLASSES - 1)
}

impl Buffers {
    /// A buffer that holds a copy of `bytes`.
    pub fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let class = class_of(bytes.len());
        let mut buffer = self.free[class]
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(SMALLEST << class));
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Takes a buffer back. Empty ones that never held anything are fine.
    pub fn release(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity < SMALLEST {
            return;
        }
        // The class whose every member has at least this capacity.
        let class = (usize::BITS - 1 - (capacity / SMALLEST).leading_zeros()) as usize;
        let class = class.min(CLASSES - 1);
        if self.free[class].len() * (SMALLEST << class) < FREE_BYTES_MAX {
            buffer.clear();
            self.free[class].push(buffer);
        }
    }

    /// Makes `buffer` hold a copy of `bytes`, in place if it fits.
    pub fn replace(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) {
        if buffer.capacity() >= bytes.len() {
            buffer.clear();
            buffer.extend_from_slice(bytes);
        } else {
            let old = std::mem::replace(buffer, self.copy(bytes));
            self.release(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_buffer_serves_the_next_copy_of_its_size() {
        let mut buffers = Buffers::default();
        for len in [0, 1, 256, 257, 1500, 65_535] {
            let first = buffers.copy(&vec![1; len]);
            let (place, capacity) = (first.as_ptr(), first.capacity());
            assert!(capacity >= len);
            buffers.release(first);
            let second = buffers.copy(&vec![2; len]);
            assert_eq!((second.as_ptr(), second.capacity()), (place, capacity), "{len}");
            assert_eq!(second, vec![2; len]);
        }
    }

    #[test]
    fn replacing_grows_only_when_it_must() {
        let mut buffers = Buffers::default();
        let mut buffer = buffers.copy(b"abc");
        let place = buffer.as_ptr();
        buffers.replace(&mut buffer, &[7; 200]);
        assert_eq!(buffer.as_ptr(), place);
        buffers.replace(&mut buffer, &[8; 2_000]);
        assert_eq!(buffer, vec![8; 2_000]);
    }
}
