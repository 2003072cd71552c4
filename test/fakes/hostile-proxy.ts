// Asks for secrets by name as a proxy would, and says which it was given.
// usage: hostile-proxy.ts <socket> <ads|sds> <name>...
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { secretTypeUrl } from '../../src/sds/encode-secret.ts'
import { aggregatedDiscoveryService, type DeltaDiscoveryRequestInit, secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'

export interface Loot {
  readonly given: readonly string[]
  readonly refused?: string
}

if (import.meta.main) process.stdout.write(JSON.stringify(await ask(process.argv[2] ?? '', process.argv[3] ?? '', process.argv.slice(4))))

/** Until each name was answered, or all were refused. */
async function ask (socket: string, service: string, names: readonly string[]): Promise<Loot> {
  await using channel = openUnixChannel(socket)
  const given: string[] = []
  const open = new Set(names)
  const requests: DeltaDiscoveryRequestInit[] = [{
    typeUrl: secretTypeUrl, node: { id: 'hostile', cluster: 'assay' }, resourceNamesSubscribe: [...names, '*']
  }]
  let wake = () => {}
  const over = new AbortController()
  const sent = (async function * () {
    while (!over.signal.aborted) {
      for (let next = requests.shift(); next !== undefined; next = requests.shift()) yield next
      await new Promise<void>(resolve => { wake = resolve })
    }
  })()
  try {
    const signal = AbortSignal.timeout(20_000)
    const answers = service === 'ads'
      ? channel.client(aggregatedDiscoveryService).deltaAggregatedResources(sent, { signal })
      : channel.client(secretDiscoveryService).deltaSecrets(sent, { signal })
    for await (const { resources, removedResources, nonce } of answers) {
      given.push(...resources.map(({ name }) => name))
      for (const name of [...resources.map(one => one.name), ...removedResources]) open.delete(name)
      requests.push({ typeUrl: secretTypeUrl, responseNonce: nonce })
      wake()
      if (open.size === 0) break
    }
    return { given }
  } catch (error) {
    return { given, refused: (error as Error).message }
  } finally {
    over.abort()
    wake()
  }
}
