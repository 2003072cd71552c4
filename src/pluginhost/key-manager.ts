import type { KeyManager, ManagedKey } from '../keys/key-manager.ts'
import { checkKeyId, isKeyId } from '../keys/local-key-manager.ts'
import { RemoteCalls } from '../keys/remote/remote-calls.ts'
import { remoteSigner } from '../keys/remote/remote-signer.ts'
import type { ExternalProgram } from '../plugins/external-program.ts'
import type { CallOptions, Channel } from '../rpc/channel.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import {
  HashAlgorithm, KeyType as WireKeyType, keyManagerPluginService as service, type PublicKey
} from '../wire/generated/plugin-key-manager.ts'
import type { KeyType } from '../x509/key-type.ts'
import { ExternalPlugin } from './external-plugin.ts'
import type { PluginHost } from './plugin-host.ts'

const wireTypes: Readonly<Record<KeyType, number>> = {
  'ec-p256': WireKeyType.EC_P256, 'ec-p384': WireKeyType.EC_P384, 'rsa-2048': WireKeyType.RSA_2048, 'rsa-4096': WireKeyType.RSA_4096
}

/** The server's plugin type `KeyManager` of SPIRE. */
export async function startExternalKeyManager (
  name: string, program: ExternalProgram, host: PluginHost, signal: AbortSignal
): Promise<KeyManager> {
  const plugin = await ExternalPlugin.start({ type: 'KeyManager', name, program, service: service.name }, host, signal)
  const keys = new ExternalKeyManager(plugin, host)
  try {
    await keys.list()
  } catch (error) {
    await keys[Symbol.asyncDispose]()
    throw error
  }
  plugin.onRestarted(() => keys.list())
  return keys
}

/**
 * Keys that a plugin holds for this server alone, under our IDs: a new key takes the place of the one that had its ID, also for who still
 * holds that. Each signature is checked against the key it is meant to be of.
 */
class ExternalKeyManager implements KeyManager {
  readonly #plugin: ExternalPlugin
  readonly #calls: RemoteCalls
  #keys: ReadonlyMap<string, ManagedKey> = new Map()

  constructor (plugin: ExternalPlugin, { clock }: PluginHost) {
    this.#plugin = plugin
    this.#calls = new RemoteCalls(plugin.name, { clock, log: plugin.log })
  }

  get ids (): readonly string[] { return [...this.#keys.keys()] }

  getKey (id: string): ManagedKey | undefined { return this.#keys.get(id) }

  /** Takes over which keys the plugin has. Those of other types than ours are somebody else's. */
  async list (): Promise<void> {
    const { publicKeys } = await this.#ask(undefined, (channel, options) => channel.client(service).getPublicKeys({}, options))
    const keys = new Map<string, ManagedKey>()
    for (const key of publicKeys) {
      const type = typeOf(key)
      if (type === undefined || !isKeyId(key.id)) continue
      const known = this.#keys.get(key.id)
      // Whoever holds a key that did not change goes on.
      const isSame = known !== undefined && Buffer.from(known.publicKey).equals(key.pkixData)
      keys.set(key.id, isSame ? known : this.#hold(key.id, type, key.pkixData))
    }
    const gone = [...this.#keys.keys()].filter(id => !keys.has(id))
    if (gone.length > 0) this.#plugin.log.error({ keys: gone }, 'the plugin does not have these keys any more')
    this.#keys = keys
  }

  async generateKey (id: string, type: KeyType): Promise<ManagedKey> {
    checkKeyId(id)
    return await this.#calls.oneChange(async () => {
      const { publicKey } = await this.#calls.once('create', signal => this.#ask(signal, (channel, options) =>
        channel.client(service).generateKey({ keyId: id, keyType: wireTypes[type] }, options)))
      if (publicKey === undefined || publicKey.id !== id || typeOf(publicKey) !== type) {
        throw new SpiffeError('key_service_malformed', `the plugin ${this.#plugin.name} made another key than the one it was asked for`)
      }
      const key = this.#hold(id, type, publicKey.pkixData)
      // Whatever keeps it from signing shows before anybody relies on it.
      await key.sign(Buffer.from('key self-test'), 'der')
      this.#keys = new Map([...this.#keys, [id, key]])
      return key
    })
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.#calls.close()
    await this.#plugin[Symbol.asyncDispose]()
  }

  #hold (id: string, type: KeyType, publicKey: Uint8Array): ManagedKey {
    const hashAlgorithm = type === 'ec-p384' ? HashAlgorithm.SHA384 : HashAlgorithm.SHA256
    const location = `${id} of the plugin ${this.#plugin.name}`
    const signer = remoteSigner({ manager: this.#plugin.name, location, type, publicKey, retired: [] }, async data => {
      const { signature } = await this.#calls.again('sign', signal => this.#ask(signal, (channel, options) =>
        channel.client(service).signData({ keyId: id, data, hashAlgorithm }, options)))
      return signature
    })
    return { id, ...signer }
  }

  async #ask<T> (signal: AbortSignal | undefined, work: (channel: Channel, options: CallOptions) => Promise<T>): Promise<T> {
    try {
      return await this.#plugin.call(work, { signal })
    } catch (error) {
      if (!(error instanceof SpiffeError) || !error.code.startsWith('plugin_')) throw error
      const { code, message, cause } = error
      const isGone = cause instanceof RpcError && cause.status === 'NOT_FOUND'
      const answered = isGone ? 'key_service_key_gone' : 'key_service_failed'
      throw new SpiffeError(code === 'plugin_unavailable' ? 'key_service_unreachable' : answered, message, { cause: error })
    }
  }
}

function typeOf ({ type }: PublicKey): KeyType | undefined {
  return (Object.keys(wireTypes) as KeyType[]).find(name => wireTypes[name] === type)
}
