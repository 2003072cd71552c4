import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { removeTemporaries, writeFileAtomically } from '../runtime/atomic-file.ts'
import { version } from '../runtime/version.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { pluginType } from './chain.ts'

/** What a node needs to run the plugin that has neither Node nor the libraries of the image. */
export interface Program {
  /** Has `dist/`, `node_modules/` and `package.json`. */
  readonly root: string
  readonly node: string
  /** Those that Node has loaded; one of them is the loader. */
  readonly libraries: readonly string[]
}

export interface Places {
  /** Where the runtime looks for plugins. */
  readonly binFolder: string
  /** Where the program goes; of nobody else. */
  readonly programFolder: string
}

const installedName = /^\d[\w.-]*-[0-9a-f]{16}$/
const staging = '.new'
const cacheName = 'cache'

/** The program of this process, which is built. @throws {SpiffeError} `file_unusable` when it was not built */
export function runningProgram (root = join(import.meta.dirname, '../..')): Program {
  if (!existsSync(join(root, 'dist/cli/main.js'))) {
    const what = `${root} has no dist/cli/main.js: a node gets the program as it is in the image, or after npm run build`
    throw new SpiffeError('file_unusable', what)
  }
  // By the names that programs ask for, which maps of memory do not have.
  const { sharedObjects } = process.report.getReport() as unknown as { readonly sharedObjects: readonly string[] }
  return { root, node: process.execPath, libraries: sharedObjects.filter(path => /^\/.*\.so(\.|$)/.test(path)) }
}

/**
 * Copies the program to the node and has the plugin's name among the plugins mean it. Whoever calls the plugin meanwhile gets the old one
 * or the new one, whole.
 * @returns the folder of this program
 * @throws {SpiffeError} `file_unusable`
 */
export async function installProgram (program: Program, { binFolder, programFolder }: Places): Promise<string> {
  try {
    await mkdir(programFolder, { recursive: true })
    const files = await filesOf(program)
    const digest = await digestOf(files, ({ from }) => from)
    const name = `${version}-${digest.slice(0, 16)}`
    const target = join(programFolder, name)
    if (await digestOf(files, ({ to }) => join(target, to)).catch(() => '') !== digest) await copy(files, programFolder, target)
    const launcher = join(binFolder, pluginType)
    await removeTemporaries(launcher)
    const before = await readFile(launcher, 'utf8').catch(() => '')
    const wanted = launcherOf(target, program, join(programFolder, cacheName))
    if (before !== wanted) await writeFileAtomically(launcher, wanted, { mode: 0o755 })
    // Calls of the one before may still be under way.
    await removePrograms(programFolder, installed => installed !== name && !before.includes(`/${installed}/`))
    return target
  } catch (error) {
    throw new SpiffeError('file_unusable', `the plugin cannot be put in place: ${(error as Error).message}`, { cause: error })
  }
}

/** The plugin's name, then the program. What is not there is no mistake. @throws {SpiffeError} `file_unusable` */
export async function removeProgram ({ binFolder, programFolder }: Places): Promise<void> {
  try {
    await rm(join(binFolder, pluginType), { force: true })
    await removePrograms(programFolder, () => true)
    await rm(join(programFolder, cacheName), { recursive: true, force: true })
  } catch (error) {
    throw new SpiffeError('file_unusable', `the plugin cannot be removed: ${(error as Error).message}`, { cause: error })
  }
}

interface CopiedFile { readonly from: string, readonly to: string }

async function filesOf ({ root, node, libraries }: Program): Promise<readonly CopiedFile[]> {
  const files: CopiedFile[] = [
    { from: node, to: 'node' }, { from: join(root, 'package.json'), to: 'app/package.json' },
    ...libraries.map(from => ({ from, to: `lib/${basename(from)}` }))
  ]
  for (const folder of ['dist', 'node_modules']) {
    const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true })
    for (const entry of entries.filter(entry => entry.isFile())) {
      const from = join(entry.parentPath, entry.name)
      files.push({ from, to: join('app', from.slice(root.length + 1)) })
    }
  }
  return files.toSorted((a, b) => a.to < b.to ? -1 : 1)
}

async function digestOf (files: readonly CopiedFile[], pathOf: (file: CopiedFile) => string): Promise<string> {
  const digest = createHash('sha256')
  for (const file of files) {
    const content = createHash('sha256')
    await pipeline(createReadStream(pathOf(file)), content)
    digest.update(`${file.to}\0`).update(content.digest())
  }
  return digest.digest('hex')
}

async function copy (files: readonly CopiedFile[], programFolder: string, target: string): Promise<void> {
  const fresh = join(programFolder, staging)
  await rm(fresh, { recursive: true, force: true })
  for (const { from, to } of files) {
    await mkdir(dirname(join(fresh, to)), { recursive: true })
    await copyFile(from, join(fresh, to))
  }
  // One that is there is not what it says.
  await rm(target, { recursive: true, force: true })
  await rename(fresh, target)
}

async function removePrograms (programFolder: string, isMeant: (name: string) => boolean): Promise<void> {
  const names = await readdir(programFolder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const programs = names.filter(name => name === staging || (installedName.test(name) && isMeant(name)))
  await Promise.all(programs.map(name => rm(join(programFolder, name), { recursive: true, force: true })))
}

/** The node's libraries may be others than the image's: the image's own loader starts Node, with the image's own. */
function launcherOf (target: string, { libraries }: Program, cache: string): string {
  const loader = libraries.map(path => basename(path)).find(name => name.startsWith('ld-'))
  const lib = join(target, 'lib')
  const start = loader === undefined ? [] : [join(lib, loader), '--library-path', lib]
  const words = [...start, join(target, 'node'), join(target, 'app/dist/cli/main.js'), 'cni'].map(quoted).join(' ')
  return `#!/bin/sh\n# Put here by \`assay mesh keep-plugin\`.\nNODE_COMPILE_CACHE=${quoted(cache)} exec ${words}\n`
}

function quoted (word: string): string { return `'${word.replaceAll('\'', '\'\\\'\'')}'` }
