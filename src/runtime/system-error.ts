/** Whether the kernel refused, as with a disk that is full: nothing of ours is wrong, and it may work later. */
export function isSystemError (error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error
}
