import { access, constants } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { findPostgres } from '../../compose/local/postgres-pair.ts'
import { findEnvoy } from '../../src/cli/demo/find-envoy.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** Something that a machine may not have. */
export interface Need {
  /** For the list. */
  readonly name: string
  /** @returns a folder for PATH, where it lies in one that may not be there. Throws an error that says what is missing and what to do */
  find (environment: Environment): Promise<string | undefined>
}

export const root: Need = {
  name: 'root',
  async find () {
    if (process.getuid?.() !== 0) throw new Error('it takes root to make network namespaces: run it as root')
    return undefined
  }
}

export const envoy: Need = { name: 'Envoy', find: async environment => dirname((await findEnvoy(environment['PATH'])).file) }

export const postgresql: Need = { name: 'PostgreSQL', find: environment => findPostgres(environment['PATH']) }

/** @param install what to do on Debian where it is missing */
export function program (name: string, install: string): Need {
  return {
    name,
    async find ({ PATH = '' }) {
      for (const folder of PATH.split(delimiter)) {
        const found = await access(join(folder, name), constants.X_OK).then(() => true, () => false)
        if (found) return undefined
      }
      throw new Error(`${name} is not on PATH: ${install}`)
    }
  }
}

export const bash = program('bash', 'apt install bash')
export const curl = program('curl', 'apt install curl')
export const openssl = program('openssl', 'apt install openssl')
export const python = program('python3', 'apt install python3')

/** A Vault or an OpenBao, which is too big to come along. */
export const vault: Need = {
  name: 'Vault or OpenBao',
  async find ({ VAULT_BIN: file = '' }) {
    if (file === '') throw new Error('VAULT_BIN names no program of Vault or OpenBao')
    await access(file, constants.X_OK).catch(() => { throw new Error(`VAULT_BIN names ${file}, which is no program`) })
    return undefined
  }
}
