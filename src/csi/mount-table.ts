import { readFileSync } from 'node:fs'

/** One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). */
export interface MountedAt {
  readonly id: number
  readonly parentId: number
  readonly point: string
  /** Whether this mount is, whatever its file system is. */
  readonly readOnly: boolean
}

/** What is mounted on top at a path, in this process's namespace; `undefined`: the path is no mount point. */
export function mountedAt (path: string, table: string = readFileSync('/proc/self/mountinfo', 'utf8')): MountedAt | undefined {
  const here = parseMountTable(table).filter(({ point }) => point === path)
  // Of several at one point each but the first stands on another; the order of lines says nothing.
  const below = new Set(here.map(({ parentId }) => parentId))
  return here.find(({ id }) => !below.has(id))
}

/** Lines that are none are left out: the kernel writes them. */
export function parseMountTable (table: string): MountedAt[] {
  return table.split('\n').flatMap(line => {
    const [id, parentId, , , point, options] = line.split(' ')
    if (point === undefined || options === undefined) return []
    return [{ id: Number(id), parentId: Number(parentId), point: decodeOctal(point), readOnly: options.split(',').includes('ro') }]
  })
}

/** Blanks, tabs, line ends and backslashes are written in octal; bytes beyond ASCII as they are. */
function decodeOctal (text: string): string {
  return text.replaceAll(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
