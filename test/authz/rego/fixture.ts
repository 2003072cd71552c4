import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readTarGz } from '../../../src/authz/rego/tar-archive.ts'
import { makeTarGz } from './make-tar.ts'

export const fixtureBytes = readFileSync(join(import.meta.dirname, 'fixture/bundle.tar.gz'))

/** The fixture with other files: `undefined` takes one away. */
export async function changedFixture (changes: Readonly<Record<string, string | Uint8Array | undefined>>): Promise<Buffer> {
  const files = new Map<string, string | Uint8Array | undefined>([...await readTarGz(fixtureBytes), ...Object.entries(changes)])
  return makeTarGz([...files].flatMap(([path, content]) => content === undefined ? [] : [{ path, content }]))
}

/** Another revision in its manifest and in its data. */
export async function fixtureOf (revision: number): Promise<Buffer> {
  const manifest = JSON.parse(String((await readTarGz(fixtureBytes)).get('.manifest'))) as object
  return await changedFixture({
    '.manifest': JSON.stringify({ ...manifest,
      revision: `r${revision}` }), 'data.json': JSON.stringify({ hostile_data: { users: ['ann'], revision } })
  })
}
