import { execFile } from 'node:child_process'
import { copyFile, mkdir, realpath, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Copies programs and modules into a root folder, each with all libraries that it loads. @param paths of each here, and there */
export async function copyPrograms (root: string, paths: ReadonlyMap<string, string>): Promise<void> {
  for (const [from, to] of paths) await copyInto(root, from, to)
  for (const library of await librariesOf([...paths.keys()])) await copyInto(root, library, library)
}

/** Where the shell finds a program. Throws when it does not. */
export async function whereIs (program: string): Promise<string> {
  const { stdout } = await run('sh', ['-c', `command -v ${program}`]).catch(() => ({ stdout: '' }))
  const path = stdout.trim()
  if (!path.startsWith('/')) throw new Error(`there is no program ${program} here`)
  return path
}

async function copyInto (root: string, from: string, to: string): Promise<void> {
  const target = join(root, to)
  if (await stat(target).then(() => true, () => false)) return
  await mkdir(dirname(target), { recursive: true })
  await copyFile(await realpath(from), target)
}

/** Under the paths by which they are asked for, the loader included. */
async function librariesOf (files: readonly string[]): Promise<Set<string>> {
  // It fails for what is linked statically, which needs none.
  const { stdout } = await run('sh', ['-c', 'ldd "$@" 2>/dev/null; true', 'ldd', ...files], { maxBuffer: 1 << 24 })
  return new Set(stdout.match(/\/[^\s:()]*\.so[^\s:()]*(?= \(0x)/g))
}
