import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { chmod, lstat, mkdir, open, readdir, readFile, readlink, rename, rm, stat, symlink, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { syncFolder } from '../runtime/atomic-file.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { FileContent, FileSet } from './file-set.ts'
import type { Owner } from './owners.ts'

/** The link that says which folder holds the set of now, as the kubelet calls it. */
const current = '..data'
const generation = /^\.\.set-[\w-]{12}$/
const temporary = /^\.\.new-[\w-]{12}$/
/** Nothing of ours is larger. */
const largestFile = 16 * 1024 * 1024

export interface SetWriterOptions {
  /** See `openCertDir`. */
  readonly folder: string
  readonly owner: Owner | undefined
  /** Told after each change on the disk: what is there then is what a crash would leave. */
  readonly onStep?: ((what: string) => void) | undefined
}

/**
 * Writes files as a set: each name in the folder is a link through `..data`, which is a link to a folder that holds them all, so that one
 * rename changes all of them. A process killed anywhere leaves the old set or the new one. Whoever opens two of them by name while that
 * rename happens may still get one of each; that is what being told to read them again is for.
 */
export class SetWriter {
  readonly #options: SetWriterOptions
  /** One change at a time: to remove what is not in use would take a set away that is being written. */
  #last: Promise<unknown> = Promise.resolve()

  private constructor (options: SetWriterOptions) { this.#options = options }

  /** For the one process that writes there. @throws {SpiffeError} `files_not_written` */
  static async open (options: SetWriterOptions): Promise<SetWriter> {
    const writer = new SetWriter(options)
    await writer.prune()
    return writer
  }

  /**
   * On return the set is on the disk. Files of a name that were there before are taken over.
   * @returns whether anything was another before
   * @throws {SpiffeError} `files_not_written`: what was there is there still; `cert_dir_unsafe`: a name is taken by what is no file
   */
  async write (set: FileSet): Promise<boolean> {
    return await this.#guard(async () => {
      const kinds = new Map<string, 'link' | 'file' | 'absent'>()
      for (const name of set.keys()) kinds.set(name, await this.#kindOf(name))
      const before = await this.#read([...kinds].filter(([, kind]) => kind !== 'absent').map(([name]) => name))
      const next = new Map([...set].flatMap(([name, file]) => {
        const kept = file ?? before.get(name)
        return kept === undefined ? [] : [[name, kept] as const]
      }))
      const isSame = [...kinds.values()].every(kind => kind === 'link') && next.size === before.size &&
        [...next].every(([name, file]) => isEqual(file, before.get(name), this.#options.owner))
      if (isSame) return false
      // What is left of earlier sets makes room; the one of now stays until the next time, for whoever is reading it.
      await this.#prune()
      // A file of before becomes a link to a copy of itself, so that the whole set can change in one step after that.
      const files = [...kinds].filter(([, kind]) => kind === 'file').map(([name]) => name)
      if (files.length > 0) {
        await this.#point(await this.#writeGeneration(before))
        for (const name of files) await this.#link(name)
      }
      // Links that lead nowhere first: then all files appear at once.
      const path = await this.#writeGeneration(next)
      for (const [name, kind] of kinds) if (kind === 'absent') await this.#link(name)
      await this.#point(path)
      await this.#dropLinks(set)
      return true
    })
  }

  /** Removes sets that are not in use, with the keys in them. @throws {SpiffeError} `files_not_written` */
  async prune (): Promise<void> { await this.#guard(() => this.#prune()) }

  async #prune (): Promise<void> {
    const { folder } = this.#options
    const used = await readlink(join(folder, current)).catch(() => undefined)
    for (const name of await readdir(folder)) {
      if (!temporary.test(name) && !(generation.test(name) && name !== used)) continue
      await rm(join(folder, name), { recursive: true, force: true })
      this.#step(`removed ${name}`)
    }
  }

  /** Takes all of them away: first the way to them, then themselves. @throws {SpiffeError} `files_not_written` */
  async remove (names: Iterable<string>): Promise<void> {
    await this.#guard(async () => {
      await rm(join(this.#options.folder, current), { force: true })
      this.#step('removed the way to the set')
      for (const name of names) if (await this.#kindOf(name) !== 'absent') await unlink(join(this.#options.folder, name))
      await this.#prune()
      await syncFolder(this.#options.folder)
    })
  }

  async #kindOf (name: string): Promise<'link' | 'file' | 'absent'> {
    const path = join(this.#options.folder, name)
    const facts = await lstat(path).catch(ifAbsent)
    if (facts === undefined) return 'absent'
    if (facts.isFile()) return 'file'
    if (facts.isSymbolicLink() && await readlink(path) === `${current}/${name}`) return 'link'
    throw new SpiffeError('cert_dir_unsafe',
      `${path} is neither a file nor a link of ours, and is left alone: remove it, or take another name`)
  }

  async #read (names: readonly string[]): Promise<Map<string, Written>> {
    const found = await Promise.all(names.map(async name => {
      const path = join(this.#options.folder, name)
      const facts = await stat(path).catch(ifAbsent)
      if (facts === undefined) return []
      if (facts.size > largestFile) throw new SpiffeError('cert_dir_unsafe', `${path} is none of ours: larger than ${largestFile} bytes`)
      return [[name, { content: await readFile(path), mode: facts.mode & 0o777, uid: facts.uid, gid: facts.gid }] as const]
    }))
    return new Map(found.flat())
  }

  async #writeGeneration (files: ReadonlyMap<string, FileContent>): Promise<string> {
    const name = `..set-${randomName()}`
    const path = join(this.#options.folder, name)
    try {
      await mkdir(path, { mode: 0o700 })
      this.#step('made a folder')
      for (const [file, content] of files) await this.#writeFile(join(path, file), content)
      await chmod(path, 0o755)
      await syncFolder(path)
      this.#step('wrote a set')
      return name
    } catch (error) {
      await rm(path, { recursive: true, force: true })
      throw error
    }
  }

  async #writeFile (path: string, { content, mode }: FileContent): Promise<void> {
    const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
    try {
      this.#step('made a file')
      await file.writeFile(content)
      const { owner } = this.#options
      if (owner !== undefined) await file.chown(owner.uid, owner.gid)
      await file.chmod(mode)
      await file.sync()
      this.#step('wrote a file')
    } finally {
      await file.close()
    }
  }

  /** The one step in which the set changes. */
  async #point (target: string): Promise<void> {
    await this.#replace(current, target)
    await syncFolder(this.#options.folder)
    this.#step('durable')
  }

  async #link (name: string): Promise<void> { await this.#replace(name, `${current}/${name}`) }

  async #replace (name: string, target: string): Promise<void> {
    const { folder } = this.#options
    const link = join(folder, `..new-${randomName()}`)
    await symlink(target, link)
    this.#step('made a link')
    await rename(link, join(folder, name))
    this.#step(`${name} leads to ${target}`)
  }

  /** Of names that are not wanted any more. */
  async #dropLinks (set: FileSet): Promise<void> {
    const { folder } = this.#options
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (set.has(entry.name) || !entry.isSymbolicLink()) continue
      if (await readlink(join(folder, entry.name)) !== `${current}/${entry.name}`) continue
      await unlink(join(folder, entry.name))
      this.#step(`dropped ${entry.name}`)
    }
  }

  #step (what: string): void { this.#options.onStep?.(what) }

  async #guard<T> (act: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(act)
    this.#last = turn.catch(() => {})
    try {
      return await turn
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      if (error instanceof SpiffeError || code === undefined) throw error
      const reason = code === 'EPERM' && this.#options.owner !== undefined ? `${message}; only root may give files to others` : message
      throw new SpiffeError('files_not_written', `cannot write to ${this.#options.folder}: ${reason}`, { cause: error })
    }
  }
}

interface Written extends FileContent { readonly uid: number, readonly gid: number }

function isEqual (file: FileContent, before: Written | undefined, owner: Owner | undefined): boolean {
  if (before === undefined || file.mode !== before.mode || !file.content.equals(before.content)) return false
  return owner === undefined || ((owner.uid === -1 || owner.uid === before.uid) && (owner.gid === -1 || owner.gid === before.gid))
}

function randomName (): string { return randomBytes(9).toString('base64url') }

function ifAbsent (error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
  return undefined
}
