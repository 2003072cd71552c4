import type { ServicePortInit } from '../../wire/generated/assay-types.ts'
import type { Flag } from '../flag.ts'

const form = /^(?:([a-z0-9-]{1,63})=)?(\d{1,5})(?::(\d{1,5}))?(?:\/([a-z0-9]+))?(?:@(\d{1,5}))?$/

/** `http=80:8080/http@1080`: all but the port itself may be left out. */
export function portListFlag (help: string): Flag<readonly ServicePortInit[]> {
  return {
    help,
    placeholder: '[NAME=]PORT[:TARGET][/PROTOCOL][@LOCAL]',
    initial: [],
    repeats: true,
    accept: (text, before) => [...before, parsePort(text)]
  }
}

function parsePort (text: string): ServicePortInit {
  const [match, name, port, targetPort, protocol, localPort] = form.exec(text) ?? []
  if (match === undefined) throw new Error('must be of the form [NAME=]PORT[:TARGET][/PROTOCOL][@LOCAL], such as 80:8080/http')
  return {
    name,
    port: Number(port),
    targetPort: targetPort === undefined ? undefined : Number(targetPort),
    protocol,
    localPort: localPort === undefined ? undefined : Number(localPort)
  }
}

/** The same form; what is as usual is left out. */
export function formatPort ({ name = '', port = 0, targetPort = 0, protocol = '', localPort = 0 }: ServicePortInit): string {
  return `${name === '' ? '' : `${name}=`}${port}${targetPort === 0 || targetPort === port ? '' : `:${targetPort}`}` +
    `/${protocol === '' ? 'tcp' : protocol}${localPort === 0 ? '' : `@${localPort}`}`
}
