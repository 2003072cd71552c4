/** `ENOENT` and the like in words that need no path. */
export function reasonOf (error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  const words: Record<string, string> = {
    ENOENT: 'no such file',
    EACCES: 'permission denied',
    EISDIR: 'it is a folder',
    ENOTDIR: 'a part of the path is no folder',
    ENOSPC: 'no space is left on the device',
    EROFS: 'read-only file system'
  }
  return (code === undefined ? undefined : words[code]) ?? message
}
