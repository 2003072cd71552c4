// Makes the root folder of an image: Node with its libraries, the compiled program with the packages it runs on, and nothing else.
// usage: node scripts/image-root.ts FOLDER [PROGRAM…], after `npm run build`; PROGRAMs of this machine come with their libraries
import { chmod, cp, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { copyPrograms, whereIs } from '../compose/podman/copy-programs.ts'

export interface ImageRootOptions {
  /** Empty, or not there. */
  readonly root: string
  /** The repository, with `dist/` and `node_modules/`. */
  readonly project: string
  /** Node's program. */
  readonly node: string
  /** Names on PATH of further programs. */
  readonly programs: readonly string[]
}

/** Of no user that a node has. */
export const imageUser = 65_532

/** What is mounted, or made by whoever runs the image. */
const folders = ['dev', 'etc/assay', 'proc', 'run/assay', 'run/secrets', 'sys', 'tmp', 'usr/local/bin', 'var/lib/assay']

/** Node runs it as it stands: there is no shell. */
const launcher = '#!/usr/bin/node\nimport(\'/opt/assay/dist/cli/main.js\')\n'

export async function makeImageRoot ({ root, project, node, programs }: ImageRootOptions): Promise<void> {
  for (const folder of folders) await mkdir(join(root, folder), { recursive: true })
  await chmod(join(root, 'tmp'), 0o1777)
  await symlink('/run', join(root, 'var/run'))
  await writeFile(join(root, 'etc/passwd'), `root:x:0:0::/:/sbin/nologin\nassay:x:${imageUser}:${imageUser}::/:/sbin/nologin\n`)
  await writeFile(join(root, 'etc/group'), `root:x:0:\nassay:x:${imageUser}:\n`)
  await writeFile(join(root, 'etc/nsswitch.conf'), 'hosts: files dns\n')
  const target = join(root, 'opt/assay')
  for (const name of ['dist', 'package.json', 'LICENSE']) await cp(join(project, name), join(target, name), { recursive: true })
  await copyPackages(project, target)
  const paths = new Map([[node, '/usr/bin/node']])
  for (const name of programs) {
    const path = await whereIs(name)
    paths.set(path, `/usr/sbin/${name}`)
  }
  // What packages bring as machine code loads libraries of its own.
  for (const file of globSync('node_modules/**/*.node', { cwd: target })) paths.set(join(target, file), `/opt/assay/${file}`)
  await copyPrograms(root, paths)
  await writeFile(join(root, 'usr/local/bin/assay'), launcher)
  await chmod(join(root, 'usr/local/bin/assay'), 0o755)
}

/** Those that the program runs on, as the lock file has them. */
async function copyPackages (project: string, target: string): Promise<void> {
  const { packages } = JSON.parse(await readFile(join(project, 'package-lock.json'), 'utf8')) as
    { packages: Readonly<Record<string, { readonly dev?: boolean, readonly devOptional?: boolean }>> }
  for (const [path, { dev, devOptional }] of Object.entries(packages)) {
    const wanted = path !== '' && dev !== true && devOptional !== true
    // Optional ones that are missing are of other platforms.
    if (!wanted || !await stat(join(project, path)).then(() => true, () => false)) continue
    await mkdir(dirname(join(target, path)), { recursive: true })
    await cp(join(project, path), join(target, path), { recursive: true })
  }
}

if (import.meta.main) {
  const [root, ...programs] = process.argv.slice(2)
  if (root === undefined) throw new Error('usage: node scripts/image-root.ts FOLDER [PROGRAM…]')
  await makeImageRoot({ root, project: join(import.meta.dirname, '..'), node: process.execPath, programs })
}
