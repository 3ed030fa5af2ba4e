import Control.Concurrent
import Control.Monad
import qualified Data.List as L
main :: IO ()
main = do
  setNumCapabilities 2
  box <- newEmptyMVar
  forM_ [1 .. 100 :: Int] $ \i -> forkIO (threadDelay (i * 100) >> putMVar box (i * i))
  xs <- replicateM 100 (takeMVar box)
  putStrLn ("Hello from ghc " ++ show (sum xs) ++ " " ++ show (L.foldl' (\a x -> (a * 31 + x) `mod` 1000003) 7 [1 .. 200000 :: Int]))
