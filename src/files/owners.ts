import { readFile } from 'node:fs/promises'
import { SpiffeError } from '../spiffe/errors.ts'

/** Numbers for chown; -1 leaves it as it is. */
export interface Owner { readonly uid: number, readonly gid: number }

/**
 * Looks names up in /etc/passwd and /etc/group. A user alone brings its own group.
 * @returns `undefined` when neither is given
 * @throws {SpiffeError} `config_invalid` for a name that is not there
 */
export async function findOwner (
  { user, group }: { readonly user: string | number | undefined, readonly group: string | number | undefined }, etc = '/etc'
): Promise<Owner | undefined> {
  if (user === undefined && group === undefined) return undefined
  const entry = typeof user === 'string' ? await lookUp(`${etc}/passwd`, user, 'file_owner') : undefined
  const uid = typeof user === 'number' ? user : Number(entry?.[2] ?? -1)
  if (typeof group === 'number') return { uid, gid: group }
  if (group !== undefined) return { uid, gid: Number((await lookUp(`${etc}/group`, group, 'file_group'))[2]) }
  return { uid, gid: Number(entry?.[3] ?? -1) }
}

async function lookUp (file: string, name: string, key: string): Promise<readonly string[]> {
  const text = await readFile(file, 'utf8').catch(() => '')
  const found = text.split('\n').map(line => line.split(':')).find(([first]) => first === name)
  if (found === undefined) throw new SpiffeError('config_invalid', `${key}: ${name} is not in ${file}; a number needs no entry there`)
  return found
}
