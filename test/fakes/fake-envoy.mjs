// As much of Envoy as who starts, drains and ends it sees. Beside its bootstrap, `state-<concurrency>.json` says what it tells of itself,
// and `asked-<concurrency>` gets a line for each request.
import { appendFileSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname, join } from 'node:path'

const words = process.argv.slice(2)
const after = flag => words[words.indexOf(flag) + 1]
if (words.includes('--version')) {
  console.log('a fake')
  process.exit()
}
const file = after('-c')
const [name, folder] = [after('--concurrency'), dirname(file)]
const { path } = JSON.parse(readFileSync(file, 'utf8')).admin.address.pipe
rmSync(path, { force: true })
process.on('SIGTERM', () => process.exit())
createServer((request, response) => {
  appendFileSync(join(folder, `asked-${name}`), `${request.url}\n`)
  const { listeners, clustersWarming } = JSON.parse(readFileSync(join(folder, `state-${name}.json`), 'utf8'))
  response.end(JSON.stringify(request.url.startsWith('/server_info') ? { state: 'LIVE' } : { stats: [
    { name: 'listener_manager.total_listeners_active', value: listeners }, { name: 'listener_manager.total_listeners_warming', value: 0 },
    { name: 'cluster_manager.warming_clusters', value: clustersWarming }
  ] }))
}).listen(path)
