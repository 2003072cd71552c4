import { join } from 'node:path'
import { parseServerConfig } from '../../server/server-config.ts'
import type { OnRows } from '../../storage/backup/row.ts'
import { parseTrustDomain, type TrustDomain } from '../../spiffe/trust-domain.ts'
import { readConfigSource } from '../config-flags.ts'
import { pathFlag, switchFlag, textFlag, type FlagValues } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { openStepProgress } from '../progress.ts'
import { defaultServerConfig } from '../server/server-config-flags.ts'
import type { Terminal } from '../terminal.ts'

/** Which database a command is about: the one of a server's configuration, or one by its address. */
export const datastoreFlags = {
  config: pathFlag('configuration file of the server', { defaultText: `${defaultServerConfig}, if it is there` }),
  expandEnv: switchFlag('replace $NAME and ${NAME} in the file from the environment'),
  trustDomain: textFlag('trust domain of the server', { placeholder: 'NAME' }),
  dataDir: pathFlag('the server\'s folder for keys and the embedded database', { placeholder: 'DIR' }),
  datastore: textFlag('address of the database, in place of a configuration', { placeholder: 'URL' })
}

export interface ChosenDatastore {
  readonly url: string
  readonly trustDomain: TrustDomain | undefined
  /** Of the server, where its configuration is known. */
  readonly dataDir: string | undefined
  /** Where the private keys are, as far as the configuration says. */
  readonly keys: KeyPlace | undefined
}

export type KeyPlace = { readonly kind: 'file', readonly path: string } | { readonly kind: 'database' } | { readonly kind: 'memory' }

/** @throws {SpiffeError} `usage_invalid`, `file_unusable`, `config_invalid` */
export async function chooseDatastore (flags: FlagValues<typeof datastoreFlags>, terminal: Terminal): Promise<ChosenDatastore> {
  const { datastore, trustDomain } = flags
  if (datastore !== undefined) {
    if (flags.config !== undefined || flags.dataDir !== undefined) throw usage('-datastore stands in place of -config and -dataDir')
    const expected = trustDomain === undefined ? undefined : parseTrustDomain(trustDomain)
    return { url: datastore, trustDomain: expected, dataDir: undefined, keys: undefined }
  }
  const config = parseServerConfig(await readConfigSource(flags, terminal, defaultServerConfig, {
    trustDomain: ['server', 'trust_domain'], dataDir: ['server', 'data_dir']
  }))
  return { url: config.datastoreUrl, trustDomain: config.trustDomain, dataDir: config.dataDir, keys: keyPlace(config) }
}

function keyPlace ({ plugins, dataDir }: ReturnType<typeof parseServerConfig>): KeyPlace | undefined {
  const [manager] = plugins.KeyManager
  if (manager?.name === 'disk') {
    const { keys_path: path = join(dataDir, 'keys.json') } = manager.config as { readonly keys_path?: string }
    return { kind: 'file', path }
  }
  return manager?.name === 'database' || manager?.name === 'memory' ? { kind: manager.name } : undefined
}

/** Progress by what is being done with the rows. */
export function openRowProgress (terminal: Terminal): Disposable & { readonly onRows: OnRows } {
  const steps = openStepProgress(terminal)
  return {
    onRows: (what, done, total) => steps.show(`rows ${what}`, done, total),
    [Symbol.dispose]: () => steps[Symbol.dispose]()
  }
}
