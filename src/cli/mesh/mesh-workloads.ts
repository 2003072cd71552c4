import { usage } from '../parse-flags.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, selectorListFlag, textFlag, textListFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag } from '../socket-path.ts'
import { meshFlags, withMesh, xdsSocketPath } from './mesh-client.ts'

export const meshAdd = defineCommand({
  flags: {
    ...meshFlags,
    id: textFlag('the runtime\'s name of it; another one for each incarnation', { placeholder: 'ID' }),
    netns: pathFlag('its network namespace, e.g. /proc/1234/ns/net', { placeholder: 'PATH' }),
    name: textFlag('what people call it', { placeholder: 'NAME', defaultText: 'its id' }),
    address: textListFlag('an address inside; read from the namespace unless given', 'IP'),
    selector: selectorListFlag('what is known of it, of type cni'),
    output: outputFlag
  },
  details: 'Its selectors are cni:id:<ID> and those given. Adding one that is there is harmless.\n' +
    'Exit code 0: the proxy serves it. 1: it does not yet; it will as soon as an entry gives it an identity and a proxy is there.',
  examples: ['assay mesh add -id web-1 -netns /proc/4711/ns/net -selector cni:app:web'],
  async run ({ flags, terminal }) {
    const { id, netns, name, address, selector } = flags
    if (id === undefined || netns === undefined) throw usage('-id and -netns are required')
    const answer = await withMesh(xdsSocketPath(flags.socketPath, terminal.environment), mesh => mesh.addWorkload({
      id, netnsPath: netns, name: name ?? '', addresses: address, selectors: selector
    }, { signal: terminal.signal, timeoutMs: 20_000 }))
    if (flags.output === 'json') terminal.out(`${formatJson(answer)}\n`)
    else if (answer.spiffeId === '') terminal.out(`${id} is known, and no entry gives it an identity\n`)
    else terminal.out(`${id} is ${answer.spiffeId}; the proxy ${answer.served ? 'serves it' : 'does not serve it yet'}\n`)
    return answer.served ? 0 : 1
  }
})

export const meshRemove = defineCommand({
  flags: { ...meshFlags, id: textFlag('as it was added', { placeholder: 'ID' }) },
  details: 'Removing one that is not there is harmless.',
  examples: ['assay mesh remove -id web-1'],
  async run ({ flags: { id, socketPath }, terminal }) {
    if (id === undefined) throw usage('-id is required')
    await withMesh(xdsSocketPath(socketPath, terminal.environment),
      mesh => mesh.removeWorkload({ id }, { signal: terminal.signal, timeoutMs: 10_000 }))
    return 0
  }
})
