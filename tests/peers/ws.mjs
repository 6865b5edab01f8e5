// A group server on ws: what a Node program does by hand. It knows joinGroup and sendToGroup, as the floor does.
import { WebSocketServer } from 'ws'

const groups = new Map()
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.env.PORT),
  perMessageDeflate: false,
  handleProtocols: (offered) => offered.values().next().value,
})

server.on('connection', (socket) => {
  const joined = new Set()
  socket.on('message', (bytes) => {
    const { type, group, data, ackId } = JSON.parse(bytes)
    if (type === 'joinGroup') {
      if (!groups.has(group)) groups.set(group, new Set())
      groups.get(group).add(socket)
      joined.add(group)
      socket.send(JSON.stringify({ type: 'ack', ackId, success: true }))
      return
    }
    const message = Buffer.from(JSON.stringify({ type: 'message', from: 'group', group, dataType: 'text', data }))
    for (const member of groups.get(group) ?? []) member.send(message, { binary: false })
  })
  socket.on('close', () => joined.forEach((group) => groups.get(group).delete(socket)))
  socket.on('error', () => {})
  socket.send(JSON.stringify({ type: 'system', event: 'connected', connectionId: 'c' }))
})
