import { readFile, stat } from 'node:fs/promises'

/**
 * Names by number from a file like `/etc/passwd` or `/etc/group`, read again when the file changes. Only that file is asked, not
 * other sources of the name service switch (LDAP, systemd): their names are not local facts and could stall an attestation.
 */
export class NameFile {
  readonly #path: string
  #read: { readonly version: string, readonly names: ReadonlyMap<number, string> } | undefined

  constructor (path: string) { this.#path = path }

  /** As the file has them now; empty when it is not there. One look is for all that is asked: who calls may be in 65536 groups. */
  async names (): Promise<ReadonlyMap<number, string>> {
    const version = await versionOf(this.#path)
    if (version === undefined) return new Map()
    // The version is older than the text, if anything: then the next look reads again.
    if (this.#read?.version !== version) this.#read = { version, names: parseNames(await readFile(this.#path, 'utf8')) }
    return this.#read.names
  }
}

/** Lines `name:password:number:…`; the first line of a number counts. Other lines are passed over, as the C library does. */
export function parseNames (text: string): Map<number, string> {
  const names = new Map<number, string>()
  for (const line of text.split('\n')) {
    const [name = '', , id = '', rest] = line.split(':')
    if (name === '' || /^[#+-]/.test(name) || rest === undefined || !/^\d{1,10}$/.test(id)) continue
    if (!names.has(Number(id))) names.set(Number(id), name)
  }
  return names
}

async function versionOf (path: string): Promise<string | undefined> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs].join(':')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
